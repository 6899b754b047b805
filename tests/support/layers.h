/*
 * layers.h - a random view with memtables and tables at several levels, and what it must say.
 *
 * Versions of a small set of keys are made in order of their numbers, and laid down layer by layer:
 * runs of tables in the last levels, tables in level 0, sealed memtables, the active one. So every
 * key is hidden, deleted and put again in many ways.
 *
 * Threads:   the thread that runs the test.
 * Ownership: layers_free() frees all; a view that a test copied or took is the test's to release
 *            before that.
 * Errors:    what fails ends the test by an assertion.
 */
#ifndef VARVE_TESTS_SUPPORT_LAYERS_H
#define VARVE_TESTS_SUPPORT_LAYERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/lsm/engine.h"
#include "tests/support/random.h"

struct layers_version {
    struct bytes key;
    uint64_t seq;
    bool marker;
};

struct layers {
    struct prng prng;
    char path[512];
    struct vfs_dir *dir;
    struct store *store; /* as far as views need one: reaper and counters */
    struct arena *arena;
    struct view *view;
    struct bytes *keys; /* ascending; some of them have no version */
    size_t n_keys;
    struct layers_version *versions; /* by key, then newest first */
    size_t n_versions;
    uint64_t tables_seq, last_seq; /* greatest number in tables, and of all */
};

/* A view of random shape. Deterministic for the prng's state. */
struct layers *layers_new(uint64_t seed);

/* Adds one more version to the active memtable. */
void layers_write(struct layers *layers);

/* The newest version of a key with a number ≤ max_seq, or NULL. */
const struct layers_version *layers_find(const struct layers *layers, struct bytes key,
                                         uint64_t max_seq);

/* True if the record is this version, whole. */
bool layers_match(const struct layers_version *version, const struct record *record);

/* Runs the reaper until it has nothing to do. */
void layers_reap(struct layers *layers);

void layers_free(struct layers *layers);

#endif
