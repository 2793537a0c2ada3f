/**
 * Draws frontiers as SVG: a small drawing for each trace, all with the same logarithmic axes, so that they can be compared
 * by eye. Down and left is better.
 */
import type { Frontier } from "./frontier.ts";
import type { Figures } from "./models/model.ts";

const MIB = 2 ** 20;
const COLUMNS = 3;
const CELL = { width: 300, height: 220 };
const PLOT = { left: 46, top: 30, width: 236, height: 148 };
const HEADER = 70;
/** MiB to copy, and updates per 1,000 writes. What lies beyond is drawn at the edge. */
const X = { from: 8, to: 2 ** 17, ticks: [8, 64, 512, 4096, 32768] };
const Y = { from: 0.005, to: 1000, ticks: [0.01, 0.1, 1, 10, 100, 1000] };

const OURS = "#0b62a4";
const ORACLE = "#9a9a9a";
const ACTIVITY_LOG = "#d1495b";
const MD = "#b07d12";
const LOCKLESS = "#3d8b57";

interface Axis {
  readonly from: number;
  readonly to: number;
}

function share(value: number, { from, to }: Axis): number {
  return Math.log(Math.min(to, Math.max(from, value)) / from) / Math.log(to / from);
}

function xOf(mib: number): number {
  return PLOT.left + share(mib, X) * PLOT.width;
}

function yOf(perThousand: number): number {
  return PLOT.top + (1 - share(perThousand, Y)) * PLOT.height;
}

function placeOf({ maxBytes, perThousand }: Figures): readonly [number, number] {
  return [Math.round(xOf(maxBytes / MIB) * 10) / 10, Math.round(yOf(perThousand) * 10) / 10];
}

function text(x: number, y: number, content: string, attributes = ""): string {
  return `<text x="${x}" y="${y}" ${attributes}>${content}</text>`;
}

function line(figures: readonly Figures[], colour: string, attributes = ""): string {
  const points = figures.map((each) => placeOf(each).join(",")).join(" ");
  return `<polyline points="${points}" fill="none" stroke="${colour}" stroke-width="1.8" ${attributes}/>`;
}

function circleAt([x, y]: readonly [number, number], colour: string): string {
  return `<circle cx="${x}" cy="${y}" r="3.6" fill="${colour}"/>`;
}

function squareAt([x, y]: readonly [number, number], colour: string): string {
  return `<rect x="${x - 3.2}" y="${y - 3.2}" width="6.4" height="6.4" fill="${colour}"/>`;
}

function grid(): string[] {
  const right = PLOT.left + PLOT.width;
  const bottom = PLOT.top + PLOT.height;
  return [
    ...X.ticks.flatMap((tick) => {
      const x = xOf(tick);
      const label = tick >= 1024 ? `${tick / 1024} GiB` : `${tick} MiB`;
      return [
        `<line x1="${x}" y1="${PLOT.top}" x2="${x}" y2="${bottom}" stroke="#e6e6e6"/>`,
        text(x, bottom + 14, label, 'text-anchor="middle" class="tick"'),
      ];
    }),
    ...Y.ticks.flatMap((tick) => {
      const y = yOf(tick);
      return [
        `<line x1="${PLOT.left}" y1="${y}" x2="${right}" y2="${y}" stroke="#e6e6e6"/>`,
        text(PLOT.left - 5, y + 3, String(tick), 'text-anchor="end" class="tick"'),
      ];
    }),
  ];
}

function cell(frontier: Frontier, index: number): string {
  const x = (index % COLUMNS) * CELL.width;
  const y = HEADER + Math.floor(index / COLUMNS) * CELL.height;
  return [
    `<g transform="translate(${x} ${y})">`,
    text(PLOT.left, PLOT.top - 9, frontier.trace, 'class="name"'),
    ...grid(),
    line(frontier.oracle, ORACLE, 'stroke-dasharray="3 3"'),
    line(frontier.ours, OURS),
    ...frontier.ours.map((each) => `<circle cx="${placeOf(each)[0]}" cy="${placeOf(each)[1]}" r="2" fill="${OURS}"/>`),
    ...frontier.activityLog.map((each) => circleAt(placeOf(each), ACTIVITY_LOG)),
    squareAt(placeOf(frontier.mdBitmap), MD),
    squareAt(placeOf(frontier.locklessBitmap), LOCKLESS),
    "</g>",
  ].join("\n");
}

/** Its mark is drawn at the middle of a text's height. */
function legend(): string[] {
  const y = 46;
  const stroke = (x: number, colour: string, dash: string): string =>
    `<line x1="${x}" y1="${y}" x2="${x + 20}" y2="${y}" stroke="${colour}" stroke-width="1.8" ${dash}/>`;
  return [
    stroke(46, OURS, ""),
    text(72, y + 4, "sluice, limits 8 MiB to 8 GiB"),
    stroke(272, ORACLE, 'stroke-dasharray="3 3"'),
    text(298, y + 4, "perfect knowledge"),
    circleAt([420, y], ACTIVITY_LOG),
    text(429, y + 4, "DRBD: 67, 1237, 6433 extents"),
    squareAt([626, y], MD),
    text(635, y + 4, "md bitmap"),
    squareAt([712, y], LOCKLESS),
    text(721, y + 4, "md llbitmap"),
  ];
}

export function drawing(frontiers: readonly Frontier[]): string {
  const width = COLUMNS * CELL.width;
  const height = HEADER + Math.ceil(frontiers.length / COLUMNS) * CELL.height;
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">`,
    "<style>text { font: 12px sans-serif; fill: #333 } .tick { font-size: 9.5px; fill: #777 } .name { font-weight: bold }</style>",
    '<rect width="100%" height="100%" fill="#fff"/>',
    text(46, 22, "Updates per 1,000 writes (up) against what must be copied after a crash (right)", 'class="name"'),
    ...legend(),
    ...frontiers.map(cell),
    "</svg>",
  ].join("\n")}\n`;
}
