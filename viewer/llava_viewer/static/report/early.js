"use strict";
// What the page shows without its script stands as elements in the file. Where this one runs, `hold` comes before each
// such part and makes text of it, up to its </noscript>, so that a page of many words opens with few elements. Where
// scripts are off, or the host of the page forbids them, nothing is written and the elements stay.
if ("DecompressionStream" in window) {
  // Fails, and so leaves everything as it is, where the host forbids pages to write themselves.
  document.write("");
  window.hold = () => document.write("<noscript>");
  document.documentElement.classList.add("js");
  // Room for the answer to a box, before the script can give it.
  if (location.hash.includes("box=")) document.documentElement.classList.add("asks");
  // An address may name another view than the first: what moves by that is shown when it is known.
  if (location.hash.includes("v=")) document.documentElement.classList.add("elsewhere");
  // The rules that work without the script are many and slow: the script marks what is chosen itself.
  document.getElementById("plain").disabled = true;
}
