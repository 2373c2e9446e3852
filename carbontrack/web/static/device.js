// The page of a device: what it answers shows within seconds, without reloading.

import { keepFresh } from "./refresh.js";

keepFresh(() => {}, () => document.querySelector("[data-under-way]") !== null);
