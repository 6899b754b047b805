/*
 * log_oracle.h - what replaying a damaged log must come to: an exact prefix of what was written, or
 * a refusal exactly where something intact proves that what is missing was durable.
 *
 * The oracle compares the files with what was written, frame by frame, and follows the words of
 * FORMAT.md, "Replay"; it shares no code with the store.
 *
 * Threads:   the test's own: these functions use cmocka's assertions.
 * Ownership: plain values.
 * Errors:    what the oracle doesn't foresee fails the test.
 */
#ifndef VARVE_TESTS_SUPPORT_LOG_ORACLE_H
#define VARVE_TESTS_SUPPORT_LOG_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/err.h"
#include "store/lsm/wal.h"
#include "tests/support/made_log.h"

/* A replay: what is asked of it, and what came out. */
struct oracle_replay {
    const struct made_log *log;
    uint64_t from_seq;    /* the first number wanted */
    uint64_t stop_at_seq; /* the receiver fails (ERR_NO_SPACE) at this number; 0: never */

    enum err err;
    struct wal_replay result;
    struct err_detail detail;
    uint64_t seen_seq; /* the last number handed on; 0: none */
    uint64_t seen_records, seen_frames;
    uint64_t done_bytes, total_bytes; /* as the last progress said */
};

/* Checks that a frame is one that was written, where it was written, joins on to the last one seen,
 * and has the right records. `arg` is a struct oracle_replay. */
wal_frame_fn oracle_see_frame;

/* Replays all segments from `from_seq` on. */
struct oracle_replay oracle_replay(struct made_log *log, uint64_t from_seq);

/* Does what `replay` asks for. */
struct oracle_replay oracle_run(struct oracle_replay replay);

/* Replays all from number 1 on and compares with what must come of it: file headers are intact, and
 * the log has no two empty frames in a row. Returns whether it is refused. */
bool oracle_check(struct made_log *log);

#endif
