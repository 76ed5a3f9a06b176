// A model's answer as Markdown. Nothing of it is ever read as HTML: every character ends in a text node, and the only
// attribute that it can set is the address of a link, of three schemes.

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*$/;
const RULE = /^ {0,3}([-*_])[ \t]*(\1[ \t]*){2,}$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])([ \t]+|$)/;
const TABLE_RULE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const LINK = /^\[((?:[^[\]\\]|\\.){0,500})\]\(<?([^\s()<>]{1,2000})>?(?:[ \t]+"[^"]*")?\)/;
const SAFE = /^(https?:\/\/|mailto:)/i;
const MARKS = [["**", "strong"], ["__", "strong"], ["~~", "s"], ["*", "em"], ["_", "em"]];
const MAX_DEPTH = 8;
const MAX_EMPHASIS = 2000;

/** Show *text* in *container*; blocks that are the same as before stay the nodes they were. */
export function showMarkdown(container, text) {
  const blocks = split(text.replace(/^ /, "").split(/\r\n|\r|\n/));
  const known = container.blocks ?? [];
  let same = 0;
  while (same < known.length && same < blocks.length && known[same] === blocks[same]) same += 1;
  while (container.childNodes.length > same) container.lastChild.remove();
  for (const block of blocks.slice(same)) container.append(drawBlock(block.split("\n"), 0));
  container.blocks = blocks;
}

/** Forget what is shown. */
export function clear(container) {
  container.replaceChildren();
  container.blocks = [];
}

// 1. Blocks: the text of each, in order.

function split(lines) {
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const end = endOfBlock(lines, at);
    blocks.push(lines.slice(at, end).join("\n"));
    at = end;
  }
  return blocks;
}

function endOfBlock(lines, start) {
  const fence = lines[start].match(FENCE);
  let at = start + 1;
  if (fence) {
    const close = new RegExp(`^ {0,3}${fence[1][0]}{${fence[1].length},}[ \\t]*$`);
    while (at < lines.length && !close.test(lines[at])) at += 1;
    return Math.min(at + 1, lines.length);
  }
  if (HEADING.test(lines[start]) || RULE.test(lines[start])) return at;
  if (ITEM.test(lines[start])) return endOfList(lines, start);
  const isQuote = QUOTE.test(lines[start]);
  while (at < lines.length && lines[at].trim() && isQuote === QUOTE.test(lines[at]) && !interrupts(lines[at])) at += 1;
  return at;
}

function interrupts(line) {
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || ITEM.test(line);
}

function endOfList(lines, start) {
  const ordered = isOrdered(lines[start]);
  let at = start + 1;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      const next = lines.findIndex((line, index) => index > at && line.trim());
      if (next < 0 || !continues(lines[next], ordered)) return at;
      at = next;
    } else if (!continues(lines[at], ordered) && (lines[at - 1].trim() === "" || interrupts(lines[at]))) {
      return at;
    } else at += 1;
  }
  return at;
}

function continues(line, ordered) {
  return /^\s{2,}\S/.test(line) || (ITEM.test(line) && !RULE.test(line) && isOrdered(line) === ordered);
}

function isOrdered(line) {
  return /\d/.test(line.match(ITEM)?.[2] ?? "");
}

// 2. One block as a node.

function drawBlock(lines, depth) {
  const [first] = lines;
  const fence = first.match(FENCE);
  if (fence) return drawCode(lines, fence[1]);
  const heading = first.match(HEADING);
  if (heading) return spelt(element(`h${Math.min(6, heading[1].length + 2)}`), heading[2]);
  if (RULE.test(first)) return document.createElement("hr");
  if (depth < MAX_DEPTH && QUOTE.test(first)) return drawQuote(lines, depth);
  if (depth < MAX_DEPTH && ITEM.test(first)) return drawList(lines, depth);
  if (lines.length > 1 && first.includes("|") && TABLE_RULE.test(lines[1])) return drawTable(lines);
  return spelt(element("p"), lines.map((line) => line.trimStart()).join("\n"));
}

function drawCode(lines, mark) {
  const closed = lines.length > 1 && new RegExp(`^ {0,3}${mark[0]}{${mark.length},}[ \\t]*$`).test(lines.at(-1));
  const code = document.createElement("code");
  code.textContent = lines.slice(1, closed ? -1 : undefined).map((line) => `${line}\n`).join("");
  const block = document.createElement("pre");
  block.tabIndex = 0; // it scrolls, and not everybody has a pointer
  block.append(code);
  return block;
}

function drawQuote(lines, depth) {
  const quote = element("blockquote");
  const inner = lines.map((line) => line.replace(QUOTE, ""));
  quote.append(...split(inner).map((block) => drawBlock(block.split("\n"), depth + 1)));
  return quote;
}

function drawList(lines, depth) {
  const list = document.createElement(isOrdered(lines[0]) ? "ol" : "ul");
  const start = Number.parseInt(lines[0].match(ITEM)[2], 10);
  if (start > 1) list.start = start;
  const items = [];
  for (const line of lines) {
    const item = line.match(ITEM);
    if (item && (items.length === 0 || item[1].length < 2)) items.push([line.slice(item[0].length)]);
    else items.at(-1).push(line.replace(/^\s{1,4}/, ""));
  }
  for (const item of items) {
    const entry = element("li");
    const blocks = split(item);
    if (blocks.length === 1 && !interrupts(blocks[0])) spelt(entry, blocks[0]);
    else entry.append(...blocks.map((block) => drawBlock(block.split("\n"), depth + 1)));
    list.append(entry);
  }
  return list;
}

function drawTable(lines) {
  const rows = lines.filter((_, index) => index !== 1).map(cells);
  const table = document.createElement("table");
  for (const [index, row] of rows.entries()) {
    const line = table.insertRow();
    for (const cell of row.slice(0, rows[0].length)) {
      line.append(spelt(element(index === 0 ? "th" : "td"), cell));
    }
  }
  return table;
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
}

function element(name) {
  const made = document.createElement(name);
  // Each block goes right to left if its first letter does.
  made.dir = "auto";
  return made;
}

// 3. What stands inside a line.

function spelt(parent, text, depth = 0) {
  let plain = "";
  const put = (node) => {
    if (plain) parent.append(plain);
    plain = "";
    parent.append(node);
  };
  for (let at = 0; at < text.length; ) {
    const found = inline(text, at, depth);
    if (found) {
      put(found.node);
      at += found.length;
    } else if (text[at] === "\n") {
      put(document.createElement("br"));
      at += 1;
    } else {
      if (text[at] === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) at += 1;
      plain += text[at];
      at += 1;
    }
  }
  if (plain) parent.append(plain);
  return parent;
}

function inline(text, at, depth) {
  switch (text[at]) {
    case "`":
      return codeSpan(text, at);
    case "[":
      return depth < MAX_DEPTH ? link(text.slice(at, at + 2600), depth) : null;
    case "*":
    case "_":
    case "~":
      return depth < MAX_DEPTH ? emphasis(text, at, depth) : null;
    default:
      return null;
  }
}

function codeSpan(text, at) {
  const mark = text.slice(at).match(/^`+/)[0];
  const end = text.indexOf(mark, at + mark.length);
  if (end < 0 || text[end + mark.length] === "`") return null;
  const node = document.createElement("code");
  node.textContent = text.slice(at + mark.length, end).replace(/^ (.*) $/, "$1");
  return { node, length: end + mark.length - at };
}

function link(text, depth) {
  const found = text.match(LINK);
  if (!found || !SAFE.test(found[2])) return null;
  const node = document.createElement("a");
  node.href = found[2];
  node.rel = "noopener nofollow";
  return { node: spelt(node, found[1], depth + 1), length: found[0].length };
}

function emphasis(text, at, depth) {
  for (const [mark, name] of MARKS) {
    if (!text.startsWith(mark, at)) continue;
    const start = at + mark.length;
    if (/\s|^$/.test(text[start] ?? "") || (mark[0] === "_" && /\w/.test(text[at - 1] ?? ""))) return null;
    const end = closing(text, start, mark);
    if (end < 0) continue;
    const node = spelt(document.createElement(name), text.slice(start, end), depth + 1);
    return { node, length: end + mark.length - at };
  }
  return null;
}

function closing(text, start, mark) {
  // Bounded, or a line of marks that never close would take time by the square of its length at every token.
  const reach = text.slice(0, start + MAX_EMPHASIS);
  for (let end = reach.indexOf(mark, start + 1); end >= 0; end = reach.indexOf(mark, end + 1)) {
    const inWord = mark[0] === "_" && /\w/.test(text[end + mark.length] ?? "");
    const doubled = mark.length === 1 && (text[end + 1] === mark || text[end - 1] === mark);
    if (!/\s/.test(text[end - 1]) && !inWord && !doubled) return end;
  }
  return -1;
}
