/** Generations, held to a model of two sides that knows what each of them really has: in every history of some length. */
import test from "ava";
import fc from "fast-check";
import {
  created,
  type Generations,
  inStep,
  met,
  NO_GENERATION,
  NO_GENERATIONS,
  offered,
  type Relation,
  relationOf,
  wentAlone,
} from "../../src/replication/generations.ts";

/** So many events, from each of the beginnings. */
const EVENTS = 10;

interface Side {
  readonly generations: Generations;
  /** Each bit is something that happened to one side first: a write, or whatever else made it go on alone. */
  readonly has: number;
  /** Those that this side does not know to be on the other one. */
  readonly record: number;
  readonly isPrimary: boolean;
}

interface Link {
  readonly source: 0 | 1;
  /** What the receiver has of generations with each point that it commits. */
  readonly following: Generations;
  /** What the receiver had with the last point that it committed. */
  readonly committed: number | undefined;
}

interface State {
  readonly sides: readonly [Side, Side];
  readonly link: Link | undefined;
  /** How many bits and names were given out. */
  readonly given: number;
  readonly happened: string;
}

type Change = (state: State, side: 0 | 1) => State | undefined;

const name = (number: number): string => number.toString(16).padStart(16, "0");
const other = (side: 0 | 1): 0 | 1 => (side === 0 ? 1 : 0);

function withSide(state: State, side: 0 | 1, change: Partial<Side>): State {
  const changed = { ...state.sides[side], ...change };
  return { ...state, sides: side === 0 ? [changed, state.sides[1]] : [state.sides[0], changed] };
}

/** Something is on this side that the other one does not have. */
function withNews(state: State, side: 0 | 1): State {
  const bit = 1 << state.given;
  const { has, record } = state.sides[side];
  return withSide({ ...state, given: state.given + 1 }, side, { has: has | bit, record: record | bit });
}

/** Counts as news by itself: the side cannot know better. */
function alone(state: State, side: 0 | 1): State {
  const before = state.sides[side].generations;
  const generations = wentAlone(before, name(state.given + 0x100));
  return generations.current === before.current ? state : withNews(withSide(state, side, { generations }), side);
}

function connected(state: State, source: 0 | 1, copy: Relation["copy"]): State {
  const mine = state.sides[source];
  // Both know it: the one has said the first, the other the second.
  const agreed = met(mine.generations, state.sides[other(source)].generations);
  const record = copy === "full" ? mine.has : mine.record;
  const asked = withSide(state, other(source), { isPrimary: false });
  const link = { source, following: inStep(agreed), committed: undefined };
  return { ...withSide(asked, source, { generations: offered(agreed), record }), link };
}

const CHANGES: Record<string, Change> = {
  write: (state, side) => {
    if (!state.sides[side].isPrimary) return undefined;
    return withNews(state.link === undefined ? alone(state, side) : state, side);
  },
  /** A person orders it. Where the other one is there, only if it has all: then the two change their parts. */
  promote: (state, side) => {
    const { link, sides } = state;
    if (sides[side].isPrimary || sides[side].generations.current === NO_GENERATION) return undefined;
    const promoted = withSide(state, side, { isPrimary: true });
    if (link === undefined) return alone(promoted, side);
    if (link.committed === undefined || link.source === side || sides[other(side)].record !== 0) return undefined;
    return { ...withSide(promoted, other(side), { isPrimary: false }), link: undefined };
  },
  connect: (state, side) => {
    if (state.link !== undefined) return undefined;
    const { kind, copy } = relationOf(state.sides[side].generations, state.sides[other(side)].generations);
    return kind === "same" || kind === "i-am-ahead" ? connected(state, side, copy) : undefined;
  },
  /** A person has said which side loses. */
  resolve: (state, side) => {
    if (state.link !== undefined) return undefined;
    const { kind, copy } = relationOf(state.sides[side].generations, state.sides[other(side)].generations);
    return kind === "split-brain" ? connected(state, side, copy) : undefined;
  },
  /** The receiver has all that the source has now. */
  commit: (state, side) => {
    const { link, sides } = state;
    if (link?.source !== side || link.committed === sides[side].has) return undefined;
    const { has } = sides[side];
    const target = { generations: link.following, has, record: 0 };
    return { ...withSide(state, other(side), target), link: { ...link, committed: has } };
  },
  /** The source hears of it. */
  told: (state, side) => {
    const { link, sides } = state;
    if (link?.source !== side || link.committed === undefined) return undefined;
    const { record, generations } = sides[side];
    if ((record & link.committed) === 0 && generations.bitmap === NO_GENERATION) return undefined;
    return withSide(state, side, { record: record & ~link.committed, generations: inStep(generations) });
  },
  disconnect: (state, side) => {
    if (state.link?.source !== side) return undefined;
    const cut = { ...state, link: undefined };
    return state.sides[side].record === 0 ? cut : alone(cut, side);
  },
};

function isEqual([one, two]: State["sides"]): boolean {
  return JSON.stringify(one.generations) === JSON.stringify(two.generations);
}

const MIRRORED: Record<Relation["kind"], Relation["kind"]> = {
  same: "same",
  "i-am-ahead": "they-are-ahead",
  "they-are-ahead": "i-am-ahead",
  "split-brain": "split-brain",
  unrelated: "unrelated",
};

/** What is wrong with what the generations say of these two, if anything is. */
function fault(mine: Side, theirs: Side): string | undefined {
  const { kind, copy } = relationOf(mine.generations, theirs.generations);
  const back = relationOf(theirs.generations, mine.generations);
  if (back.kind !== MIRRORED[kind] || back.copy !== copy) return `${kind} one way, ${back.kind} the other`;
  const onlyMine = mine.has & ~theirs.has;
  const onlyTheirs = theirs.has & ~mine.has;
  const isTrue = {
    same: onlyMine === 0 && onlyTheirs === 0,
    "i-am-ahead": onlyTheirs === 0,
    "they-are-ahead": onlyMine === 0,
    "split-brain": onlyMine !== 0 && onlyTheirs !== 0,
    unrelated: false,
  };
  if (!isTrue[kind]) return `told ${kind}, with ${onlyMine.toString(2)} here only and ${onlyTheirs.toString(2)} there`;
  const isEmpty = [mine, theirs].some(({ generations }) => generations.current === NO_GENERATION);
  if ((copy === "full") !== isEmpty) return `${kind}: ${copy} copy`;
  const missed = (onlyMine | onlyTheirs) & ~(mine.record | theirs.record);
  return copy === "recorded" && missed !== 0 ? `${kind}: the records lack ${missed.toString(2)}` : undefined;
}

const NEW: Side = { generations: NO_GENERATIONS, has: 0, record: 0, isPrimary: false };
const SOURCE: Side = { ...NEW, generations: created(name(1)), isPrimary: true };
const BEGINNINGS: readonly State[] = [
  { sides: [SOURCE, NEW], link: undefined, given: 0, happened: "first copy:" },
  { sides: [SOURCE, { ...SOURCE, isPrimary: false }], link: undefined, given: 0, happened: "in step:" },
];

test("no history makes the generations tell a wrong direction, lose a write, or copy too little", (t) => {
  const told = new Map<string, number>();
  const found: string[] = [];
  const visit = (state: State, left: number): void => {
    const [mine, theirs] = state.sides;
    // Who is connected asks nothing of the generations.
    if (state.link === undefined) {
      const { kind, copy } = relationOf(mine.generations, theirs.generations);
      told.set(`${kind}, ${copy}`, (told.get(`${kind}, ${copy}`) ?? 0) + 1);
      const wrong = fault(mine, theirs);
      if (wrong !== undefined) found.push(`${state.happened} ${wrong}`);
    }
    if (left === 0 || found.length > 0) return;
    for (const [what, change] of Object.entries(CHANGES)) {
      for (const side of [0, 1] as const) {
        const next = change(state, side);
        if (next === undefined) continue;
        const happened = `${state.happened} ${what}-${side}`;
        if (what === "told" && !isEqual(next.sides)) found.push(`${happened} generations differ`);
        visit({ ...next, happened }, left - 1);
      }
    }
  };
  for (const beginning of BEGINNINGS) visit(beginning, EVENTS);
  t.deepEqual(found, []);
  // All of them were met.
  t.deepEqual([...told.keys()].sort(), [
    "i-am-ahead, full",
    "i-am-ahead, recorded",
    "same, nothing",
    "split-brain, recorded",
    "they-are-ahead, recorded",
  ]);
});

const side = (
  current: number,
  more: { bitmap?: number; offered?: number; history?: [number, number] } = {},
): Generations => ({
  current: name(current),
  bitmap: name(more.bitmap ?? 0),
  offered: name(more.offered ?? 0),
  history: [name(more.history?.[0] ?? 0), name(more.history?.[1] ?? 0)],
});

test("every row of the table of relations", (t) => {
  const rows: [Generations, Generations, Relation["kind"], Relation["copy"]][] = [
    [side(0), side(0), "unrelated", "full"],
    [side(1), side(0), "i-am-ahead", "full"],
    [side(0), side(1), "they-are-ahead", "full"],
    [side(1), side(1), "same", "nothing"],
    [side(2, { bitmap: 1 }), side(1), "i-am-ahead", "recorded"],
    [side(3, { bitmap: 1, offered: 2 }), side(2), "i-am-ahead", "recorded"],
    [side(3, { history: [2, 1] }), side(1), "i-am-ahead", "full"],
    [side(1), side(2, { bitmap: 1 }), "they-are-ahead", "recorded"],
    [side(2), side(3, { bitmap: 1, offered: 2 }), "they-are-ahead", "recorded"],
    [side(2), side(3, { history: [2, 1] }), "they-are-ahead", "full"],
    [side(2, { bitmap: 1 }), side(3, { bitmap: 1 }), "split-brain", "recorded"],
    [side(4, { bitmap: 1, offered: 2 }), side(3, { bitmap: 2, history: [1, 0] }), "split-brain", "recorded"],
    [side(4, { bitmap: 2, history: [1, 0] }), side(3, { bitmap: 1 }), "split-brain", "full"],
    [side(4, { history: [1, 0] }), side(3, { history: [2, 1] }), "split-brain", "full"],
    [side(2, { bitmap: 1 }), side(1, { bitmap: 2 }), "split-brain", "full"],
    [side(2, { bitmap: 1 }), side(4, { bitmap: 3 }), "unrelated", "full"],
    [side(2), side(1), "unrelated", "full"],
  ];
  for (const [mine, theirs, kind, copy] of rows) t.deepEqual(relationOf(mine, theirs), { kind, copy });
});

test("both sides see the same relation, whatever their generations are", (t) => {
  const few = fc.nat(4);
  const any = fc
    .record({ current: few, bitmap: few, offered: few, history: fc.tuple(few, few) })
    .map(({ current, ...more }) => side(current, more));
  fc.assert(
    fc.property(any, any, (mine, theirs) => {
      const there = relationOf(theirs, mine);
      t.deepEqual(relationOf(mine, theirs), { kind: MIRRORED[there.kind], copy: there.copy });
    }),
    { numRuns: 2000 },
  );
});

test("a side that was offered the current generation is found by the record, whether it took it or not", (t) => {
  const source = offered(side(2, { bitmap: 1 }));
  t.deepEqual(source, side(2, { bitmap: 1, offered: 2 }));
  t.is(offered(source), source);
  const later = wentAlone(source, name(3));
  t.deepEqual(later, side(3, { bitmap: 1, offered: 2 }));
  t.is(wentAlone(later, name(9)), later);
  const took = inStep(source);
  t.deepEqual(took, side(2, { history: [1, 0] }));
  for (const theirs of [side(1), took]) {
    t.deepEqual(relationOf(later, theirs), { kind: "i-am-ahead", copy: "recorded" });
  }
  t.deepEqual(met(later, took), side(3, { bitmap: 2, history: [1, 0] }));
  t.deepEqual(met(later, side(1)), side(3, { bitmap: 1 }));
  t.deepEqual(met(source, took), took);
  // Who has nothing, or something else, has not taken it either.
  t.deepEqual(met(later, side(0)), side(3, { bitmap: 1 }));
  t.deepEqual(met(later, side(7)), side(3, { bitmap: 1 }));
  t.deepEqual(met(side(3, { bitmap: 1 }), side(0)), side(3, { bitmap: 1 }));
});

test("an offer that is taken back by another one is remembered as history", (t) => {
  const seeded = wentAlone(offered(side(2, { bitmap: 1 })), name(3));
  const again = offered(seeded);
  t.deepEqual(again, side(3, { bitmap: 1, offered: 3, history: [2, 0] }));
  t.deepEqual(relationOf(again, side(2)), { kind: "i-am-ahead", copy: "full" });
});

test("history has room for two: the oldest is forgotten", (t) => {
  t.deepEqual(inStep(side(4, { bitmap: 3, history: [2, 1] })), side(4, { history: [3, 2] }));
});
