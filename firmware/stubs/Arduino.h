#pragma once

#include <cstddef>
#include <cstdint>

class String {
public:
    String(const char* text = "");
    String(const String& other);
    String& operator=(const String& other);
    ~String();
    const char* c_str() const;
    unsigned length() const;

private:
    char* text_;
};

class HardwareSerial {
public:
    void begin(unsigned long baud);
    std::size_t setRxBufferSize(std::size_t size);
    int available();
    int read();
    std::size_t write(const std::uint8_t* from, std::size_t size);
    std::size_t print(const char* text);
    std::size_t println(const char* text = "");
};

extern HardwareSerial Serial;

std::size_t getArduinoLoopTaskStackSize();
#define SET_LOOP_TASK_STACK_SIZE(size) \
    std::size_t getArduinoLoopTaskStackSize() { return size; }

void setup();
void loop();
extern "C" bool verifyRollbackLater();
