"use strict";
// What the page shows without its script stands as elements in the file. Where this one runs, `hold` comes before each
// such part and makes text of it, up to its </noscript>, so that a page of many words opens with few elements. Where
// scripts are off, or the host of the page forbids them, nothing is written and the elements stay.
if ("DecompressionStream" in window) {
  // Fails, and so leaves everything as it is, where the host forbids pages to write themselves.
  document.write("");
  window.hold = () => document.write("<noscript>");
  document.documentElement.classList.add("js");
  // The state that the page opens in: the address's, or its own.
  window.opens = () => (location.hash.includes("=") ? location.hash : document.documentElement.dataset.open ?? "");
  // Room for the answer to a box, before the script can give it.
  if (opens().includes("box=")) document.documentElement.classList.add("asks");
  // A state may name another view than the first: what moves by that is shown when it is known.
  if (opens().includes("v=")) document.documentElement.classList.add("elsewhere");
  // The rules that work without the script are many and slow: the script marks what is chosen itself.
  document.getElementById("plain").disabled = true;
}
