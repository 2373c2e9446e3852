// Starts whichever of the two viewers of the API's description a page has.
"use strict";

const swagger = document.getElementById("swagger-ui");
if (swagger) {
  window.SwaggerUIBundle({
    url: swagger.dataset.url,
    domNode: swagger,
    deepLinking: true,
    docExpansion: "none",
    filter: true,
    tryItOutEnabled: true,
    persistAuthorization: false,
    validatorUrl: null, // another host's
  });
}

const redoc = document.getElementById("redoc");
if (redoc) {
  leaveOutPicturesFromElsewhere();
  window.Redoc.init(redoc.dataset.url, { hideHostname: true, nativeScrollbars: true }, redoc);
}

// Redoc shows its maker's logo from another host. This page may ask none, so the picture is left out.
function leaveOutPicturesFromElsewhere() {
  const image = HTMLImageElement.prototype;
  const source = Object.getOwnPropertyDescriptor(image, "src");
  const isElsewhere = (url) => new URL(url, location).host !== location.host && !url.startsWith("data:");
  const leaveOut = (element) => queueMicrotask(() => element.dispatchEvent(new Event("error")));
  Object.defineProperty(image, "src", {
    ...source,
    set(url) {
      isElsewhere(url) ? leaveOut(this) : source.set.call(this, url);
    },
  });
  image.setAttribute = function (name, value) {
    name === "src" && isElsewhere(value) ? leaveOut(this) : Element.prototype.setAttribute.call(this, name, value);
  };
}
