// Which words of this page are broken: begin on one line and end on another?
(() => {
  const broken = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode, element = text.parentElement;
    if (!text.data.trim() || !element.checkVisibility() || element.closest("noscript, script, .unseen, .skip, textarea, option")) continue;
    for (const word of text.data.matchAll(/[\p{L}\p{N}_]{2,}/gu)) {
      const range = document.createRange();
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      const tops = new Set([...range.getClientRects()].filter((r) => r.width > 0).map((r) => Math.round(r.top)));
      if (tops.size > 1) broken.add(`${word[0]} in ${element.tagName}.${element.className}: ${text.data.trim().slice(0, 60)}`);
    }
  }
  return [...broken];
})()
