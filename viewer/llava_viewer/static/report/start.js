"use strict";
// Unpacks the page's script and runs it; the policy names the unpacked text's digest.
if (window.hold) {
  const packed = Uint8Array.from(atob(document.getElementById("code").textContent), (sign) => sign.charCodeAt(0));
  const stream = new DecompressionStream("deflate");
  const writer = stream.writable.getWriter();
  writer.write(packed);
  writer.close();
  new Response(stream.readable).text().then((text) => {
    const script = document.createElement("script");
    script.textContent = text;
    document.body.append(script);
  });
}
