// The page as its file has it, kept aside before the script changes it: copies that open here are made of it.
document.currentScript.remove();
const origin = document.implementation.createHTMLDocument("").importNode(document.documentElement, true);
const ownSheet = document.createElement("style");
ownSheet.textContent = SHEET;
document.head.append(ownSheet);
