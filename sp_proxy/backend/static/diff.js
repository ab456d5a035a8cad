// The shortest way from one list of lines to another (E. Myers, An O(ND) Difference Algorithm, 1986), with a bound on its work.
// No element of the page is touched here.

const MOST_CHANGES = 600;

// [{ one, other }] in order: both where a line is the same, null on the side where it is not. Where the lists differ in more
// than the bound, what is between their common ends stands as replaced, pair by pair.
export function diff(one, other) {
  let head = 0;
  while (head < one.length && head < other.length && one[head] === other[head]) head++;
  let tail = 0;
  while (tail < one.length - head && tail < other.length - head && one.at(-1 - tail) === other.at(-1 - tail)) tail++;
  const middle = [one.slice(head, one.length - tail), other.slice(head, other.length - tail)];
  return [
    ...one.slice(0, head).map(same),
    ...(shortest(...middle) ?? replaced(...middle)),
    ...one.slice(one.length - tail).map(same),
  ];
}

const same = (line) => ({ one: line, other: line });

function replaced(one, other) {
  return [...one.map((line) => ({ one: line, other: null })), ...other.map((line) => ({ one: null, other: line }))];
}

function shortest(one, other) {
  const most = Math.min(one.length + other.length, MOST_CHANGES);
  const furthest = new Map([[1, 0]]);
  const trace = [];
  for (let changes = 0; changes <= most; changes++) {
    trace.push(new Map(furthest));
    for (let diagonal = -changes; diagonal <= changes; diagonal += 2) {
      const down = diagonal === -changes || (diagonal !== changes && furthest.get(diagonal - 1) < furthest.get(diagonal + 1));
      let at = down ? furthest.get(diagonal + 1) : furthest.get(diagonal - 1) + 1;
      while (at < one.length && at - diagonal < other.length && one[at] === other[at - diagonal]) at++;
      furthest.set(diagonal, at);
      if (at >= one.length && at - diagonal >= other.length) return way(one, other, trace);
    }
  }
  return null;
}

function way(one, other, trace) {
  const steps = [];
  let at = one.length;
  let there = other.length;
  for (let changes = trace.length - 1; changes >= 0; changes--) {
    const furthest = trace[changes];
    const diagonal = at - there;
    const down = diagonal === -changes || (diagonal !== changes && furthest.get(diagonal - 1) < furthest.get(diagonal + 1));
    const before = down ? diagonal + 1 : diagonal - 1;
    const start = changes ? furthest.get(before) : 0;
    const startThere = changes ? start - before : 0;
    while (at > start && there > startThere && (at > start + (down ? 0 : 1) || there > startThere + (down ? 1 : 0)) && one[at - 1] === other[there - 1]) {
      steps.push(same(one[--at]));
      there--;
    }
    if (!changes) break;
    if (down) steps.push({ one: null, other: other[--there] });
    else steps.push({ one: one[--at], other: null });
  }
  return steps.reverse();
}

// The same with each line that was taken out beside one that came in its place.
export function sideBySide(steps) {
  const rows = [];
  for (let at = 0; at < steps.length;) {
    if (steps[at].one !== null && steps[at].other !== null) {
      rows.push(steps[at++]);
      continue;
    }
    const removed = [];
    const added = [];
    for (; at < steps.length && (steps[at].one === null || steps[at].other === null); at++) {
      if (steps[at].other === null) removed.push(steps[at].one);
      else added.push(steps[at].other);
    }
    for (let index = 0; index < Math.max(removed.length, added.length); index++) {
      rows.push({ one: removed[index] ?? null, other: added[index] ?? null, changed: true });
    }
  }
  return rows;
}
