// The list of alerts: it comes anew with each alert, and once a minute.

import { follow } from "./live.js";
import { keepFresh } from "./refresh.js";

follow(() => {});
keepFresh(() => {});
