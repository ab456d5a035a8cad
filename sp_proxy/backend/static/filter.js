// The filter of the live view: a query, and beside it exact values, which links of other views set.

import { el } from "./dom.js";

const STATUSES = [["", "Any status"], ["2xx", "2xx"], ["3xx", "3xx"], ["4xx", "4xx"], ["5xx", "5xx"], ["0", "No response"]];
const DIRECTIONS = [["", "Both directions"], ["inbound", "Inbound"], ["outbound", "Outbound"]];
const LINKED = ["service", "method", "host", "path", "session", "trace"];
const EXAMPLES = [
  ["service:orders", "of one service; so direction, method, scheme, host, path, session, peer, error, with * and ?"],
  ["status>=500", "also 404, 5xx, none"],
  ["duration>200ms", "longer than this"],
  ["response_size>10KiB", "likewise request_size"],
  ["time>=-15m", "so long ago; also a day or a moment (UTC)"],
  ["tag.team:checkout", "a custom tag"],
  ["timeout", "a word of the target, the header fields or the bodies; wor*, \"two words\""],
  ["a b, a or b, -a, (…)", "all, one of them, not"],
];

// `apply(values)` is called when the reader has asked for something else.
export class Filter {
  constructor(values, apply) {
    this.values = values;
    this.apply = apply;
    this.query = el("input", {
      name: "q", class: "f-q", placeholder: "Filter: status>=500 service:orders, words …", "aria-label": "Query", autocomplete: "off",
      spellcheck: "false", autocapitalize: "off", maxlength: "4096", "aria-describedby": "query-problem",
    });
    this.problem = el("pre", { class: "problem query-problem", id: "query-problem", role: "alert", hidden: true });
    this.form = el("form", { class: "filters", role: "search" });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.change({ q: this.query.value.trim() });
    });
    this.query.addEventListener("change", () => this.change({ q: this.query.value.trim() }));
    this.help = el("details", { class: "query-help" }, el("summary", { class: "button", title: "The query language" }, "Syntax"),
      el("dl", {}, EXAMPLES.flatMap(([example, means]) => [el("dt", {}, el("code", {}, example)), el("dd", {}, means)])));
    this.element = el("div", { class: "filter" }, this.form, this.problem);
    this.draw();
  }

  change(changes) {
    const values = Object.fromEntries(Object.entries({ ...this.values, ...changes }).filter(([, value]) => value));
    if (JSON.stringify(values) === JSON.stringify(this.values)) return;
    this.values = values;
    this.draw();
    this.apply(values);
  }

  draw() {
    this.query.value = this.values.q || "";
    this.form.replaceChildren(
      this.query,
      choice("Status", "status", STATUSES, this),
      choice("Direction", "direction", DIRECTIONS, this),
      ...LINKED.filter((name) => this.values[name]).map((name) =>
        el("button", { type: "button", class: "chip", title: `Remove the filter on this ${name}`, onclick: () => this.change({ [name]: "" }) },
          `${name} ${shortened(this.values[name])} ✕`)),
    );
    if (Object.keys(this.values).length) {
      const nothing = Object.fromEntries(Object.keys(this.values).map((name) => [name, ""]));
      this.form.append(el("button", { type: "button", class: "clear", onclick: () => this.change(nothing) }, "Clear"));
    }
    this.form.append(this.help);
  }

  // What is wrong with the query, under it; nothing for "".
  complain(message) {
    const [, column, reason] = message.match(/^q: column (\d+): (.*)$/s) || [];
    this.problem.hidden = !message;
    this.problem.textContent = "";
    if (column && this.query.value.length < 120) {
      this.problem.append(el("span", {}, `${this.query.value}\n${" ".repeat(Number(column) - 1)}▲ `));
    }
    this.problem.append(el("span", {}, reason || message));
    if (message) this.query.setAttribute("aria-invalid", "true");
    else this.query.removeAttribute("aria-invalid");
  }
}

function choice(label, name, options, filter) {
  const chosen = filter.values[name] || "";
  const all = options.some(([value]) => value === chosen) ? options : [...options, [chosen, chosen]]; // of a link
  const select = el("select", { name, "aria-label": label, onchange: () => filter.change({ [name]: select.value }) },
    all.map(([value, text]) => el("option", { value, selected: value === chosen }, text)));
  return select;
}

const shortened = (text) => (text.length > 32 ? `${text.slice(0, 32)}…` : text);
