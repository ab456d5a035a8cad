// A tree of values, whatever format they came in. A node is { label, kind, text } for a value, or { label, kind, note,
// count, children() } for a branch, whose children are made when it is opened: a body can be as deep as its sender liked.

import { el } from "./dom.js";
import { marked } from "./redacted.js";

const ROWS = 120; // about so many are open at first
const DEPTH = 6; // and no deeper
const PAGE = 200; // children made at a time
const LONG = 2_000; // characters of a value that are shown until the reader asks for all

export function tree(nodes) {
  const list = el("div", { class: "tree", role: "group" });
  let room = ROWS;
  const open = [{ nodes, into: list, depth: 0 }];
  // Breadth first, so that a large first branch does not hide the others.
  for (let at = 0; at < open.length; at++) {
    const { nodes: level, into, depth } = open[at];
    room -= Math.min(level.length, PAGE);
    append(into, level, 0, (node, details) => {
      if (depth < DEPTH && node.count > 0 && node.count <= room) {
        room -= node.count;
        details.open = true;
        open.push({ nodes: node.children(), into: details.lastChild, depth: depth + 1 });
        details.lastChild.dataset.filled = "";
      }
    });
  }
  return list;
}

function append(into, nodes, from, onBranch = () => {}) {
  const to = Math.min(nodes.length, from + PAGE);
  for (const node of nodes.slice(from, to)) into.append(node.children ? branch(node, onBranch) : leaf(node));
  if (to < nodes.length) {
    const more = el("button", { type: "button", class: "more" }, `${nodes.length - to} more`);
    more.addEventListener("click", () => {
      more.remove();
      append(into, nodes, to);
    });
    into.append(more);
  }
}

function branch(node, onBranch) {
  const children = el("div", { class: "t-children" });
  const details = el("details", { class: "t-branch" }, el("summary", {}, label(node), el("span", { class: "t-note" }, node.note)), children);
  details.addEventListener("toggle", () => {
    if (!details.open || "filled" in children.dataset) return;
    children.dataset.filled = "";
    append(children, node.children(), 0);
  });
  onBranch(node, details);
  return details;
}

function leaf(node) {
  const value = el("span", { class: `t-value j-${node.kind}` });
  if (node.text.length > LONG) {
    const more = el("button", { type: "button", class: "more" }, `${node.text.length - LONG} characters more`);
    more.addEventListener("click", () => value.replaceChildren(...el("span", {}, marked(node.text)).childNodes));
    value.append(el("span", {}, marked(node.text.slice(0, LONG))), more);
  } else value.append(...el("span", {}, marked(node.text)).childNodes);
  return el("div", { class: "t-leaf" }, label(node), value);
}

const label = (node) => (node.label === null ? null : el("span", { class: "t-label" }, node.label));
