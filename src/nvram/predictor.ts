/** Guessing which chunks will be written soon: the one interface between the record and whoever guesses. */

/** What a predictor may ask of the record. */
export interface Seen {
  /** Chunks of the volume. */
  readonly chunks: number;
  isMember(chunk: number): boolean;
  isUsed(chunk: number): boolean;
  /** How far below a chunk the nearest used one lies; 0 where none lies within `reach`. */
  usedBelow(chunk: number, reach: number): number;
  /** How far above it. */
  usedAbove(chunk: number, reach: number): number;
  visits(chunk: number): number;
  /** A stream has passed the chunk: it may go first. */
  pass(chunk: number): void;
  /** The chunk is still expected: it counts as new again. */
  refresh(chunk: number): void;
}

/** Takes what is predicted; says false when there is no room for more. Chunks that are members already cost nothing. */
export interface Proposals {
  propose(chunk: number): boolean;
}

export interface Room {
  /** Chunks that the record may hold at all. */
  readonly limit: number;
  /** Chunks that may be added now without taking others out. */
  readonly free: number;
}

export interface Predictor {
  /**
   * A write to chunks `first` to `last` found at least one that is not in the record. Whatever is proposed now is added
   * by the update that this write needs anyway, most likely ones first.
   */
  missed(first: number, last: number, room: Room, proposals: Proposals): void;
  /** A prediction was taken out of the record to make room: it was written meanwhile, or it was wasted. */
  evicted(chunk: number, used: boolean): void;
}
