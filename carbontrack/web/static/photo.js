// A photo is made small before it is sent: a phone's camera makes megabytes, and a delivery note is read at 300 kB. It is
// drawn anew, so the place and the time that a camera writes into its files do not go with it.

const TRIES = [[1600, 0.7], [1600, 0.5], [1200, 0.5], [900, 0.4]];
const ENOUGH_BYTES = 450_000;

/** A JPEG of a photo: `{ file, width, height }`. Throws for what is no picture. */
export async function shrunk(photo, mostBytes) {
  const picture = await createImageBitmap(photo, { imageOrientation: "from-image" });
  let made;
  for (const [side, quality] of TRIES) {
    made = await drawn(picture, side, quality);
    if (made.file.size <= Math.min(ENOUGH_BYTES, mostBytes)) break;
  }
  picture.close();
  return made;
}

async function drawn(picture, side, quality) {
  const share = Math.min(1, side / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * share));
  canvas.height = Math.max(1, Math.round(picture.height * share));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff"; // behind what is see-through
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
  return { file: new File([blob], "delivery-note.jpg", { type: "image/jpeg" }), width: canvas.width, height: canvas.height };
}

/** A picture's address for an <img>: the pages' policy lets `data:` in, and no `blob:`. */
export function shownAt(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** Have a file field send another file than the one that was chosen. */
export function exchange(input, file) {
  const held = new DataTransfer();
  if (file) held.items.add(file);
  input.files = held.files;
}
