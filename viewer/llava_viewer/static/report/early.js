"use strict";
// The rules that work without the script are many and slow: the script marks what is chosen itself.
if ("DecompressionStream" in window) {
  document.documentElement.classList.add("js");
  document.getElementById("plain").disabled = true;
}
