#pragma once

#include <functional>

#include "Arduino.h"

enum HTTPMethod { HTTP_GET, HTTP_POST };

class WebServer {
public:
    explicit WebServer(int port);
    void on(const char* uri, HTTPMethod method, std::function<void()> handler);
    void onNotFound(std::function<void()> handler);
    void begin();
    void handleClient();
    bool hasArg(const char* name);
    String arg(const char* name);
    void sendHeader(const char* name, const char* value);
    void send(int code, const char* type, const char* content);
};
