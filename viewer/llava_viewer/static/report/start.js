"use strict";
// Unpacks the page's script and runs it; the policy names the unpacked text's digest. A browser that cannot gets what
// a browser without scripts gets.
if ("DecompressionStream" in window) {
  const packed = Uint8Array.from(atob(document.getElementById("code").textContent), (sign) => sign.charCodeAt(0));
  new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"))).text().then((text) => {
    const script = document.createElement("script");
    script.textContent = text;
    document.body.append(script);
  });
} else {
  for (const block of document.querySelectorAll("noscript")) block.outerHTML = block.textContent;
}
