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
  window.Redoc.init(redoc.dataset.url, { hideHostname: true, nativeScrollbars: true }, redoc);
}
