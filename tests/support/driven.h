/*
 * driven.h - a store without threads, driven step by step, beside a model of what it must hold.
 *
 * Keys are numbered; a value is the pattern of its key and of a version that is never used twice.
 * A write is driven until it is durable. Background steps run when a test says so.
 *
 * Threads:   one: RCU is in manual mode for it.
 * Ownership: driven_release() closes and frees; snapshots are freed before that.
 * Errors:    what fails unexpectedly ends the test by an assertion.
 */
#ifndef VARVE_TESTS_SUPPORT_DRIVEN_H
#define VARVE_TESTS_SUPPORT_DRIVEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/lsm/engine.h"
#include "tests/support/random.h"

#define DRIVEN_EVENT_KINDS (STORE_EVENT_NUMBERS_USED_UP + 1)
#define DRIVEN_KEY_BYTES   32u

struct driven {
    struct store_options options;
    struct store *store;
    struct prng prng;
    size_t n_keys;
    struct driven_key {
        uint64_t version;           /* 0: not there */
        size_t size;                /* of its value */
        struct store_version shown; /* what the store calls it */
    } * keys;
    uint64_t last_version;
    uint64_t events[DRIVEN_EVENT_KINDS];
    char last_text[DRIVEN_EVENT_KINDS][512], last_keys[DRIVEN_EVENT_KINDS][512];
};

/* A model without a store, on files of `vfs` at `dir` (borrowed), with the smallest memtables. */
void driven_init(struct driven *driven, const struct vfs *vfs, const char *dir, size_t n_keys,
                 uint64_t seed);
void driven_open(struct driven *driven);
void driven_close(struct driven *driven);
void driven_release(struct driven *driven);

/* Writes one key, all the way. `size` from PATTERN_VERSION_BYTES. */
void driven_put(struct driven *driven, size_t key, size_t size);
void driven_delete(struct driven *driven, size_t key);

/* One step of a random background job. */
void driven_step(struct driven *driven);
/* Steps of one kind, until they have nothing to do; false if there was nothing at all. */
bool driven_flushes(struct driven *driven);
bool driven_compactions(struct driven *driven);
/* Of the scrubber: to the end of the pass. */
void driven_scrub(struct driven *driven);
void driven_reclaims(struct driven *driven);
/* Everything that is due. */
void driven_settle(struct driven *driven);
/* Puts what is in memory into a level-0 table. */
void driven_flush(struct driven *driven);
/* Asks for a full compaction and drives it to its end. */
enum err driven_compact(struct driven *driven);

/* Looks up one key; on ERR_OK what was found is what the model says. */
enum err driven_get(struct driven *driven, size_t key);

/* Looks up one key; lists all keys backward, without values, and looks some up; scans all keys
 * with their values. */
void driven_check_key(struct driven *driven, size_t key);
void driven_check_keys(struct driven *driven);
void driven_check(struct driven *driven);

/* An open scan and what it must show. */
struct driven_snapshot;
struct driven_snapshot *driven_snapshot(struct driven *driven, bool reverse, bool keys_only);
/* Walks on over at most `n` entries. */
void driven_snapshot_walk(struct driven_snapshot *snapshot, size_t n);
void driven_snapshot_free(struct driven_snapshot *snapshot);

#endif
