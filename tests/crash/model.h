/*
 * model.h - what a store must hold after a crash, as a list of the writes that were issued.
 *
 * Writes take effect in the order in which they are issued, so the store's state is always that of
 * a prefix of the list. Three marks: `issued` (all of it), `acked` (the longest prefix that was
 * acknowledged) and `seen` (the longest that a reader was shown). After a crash the recovered state
 * must be that of one prefix between max(acked, seen) and issued: less is loss, or a dirty read;
 * anything that is no prefix is a torn batch or a hole.
 *
 * Threads:   one.
 * Ownership: model_free() frees all.
 * Errors:    out of memory ends the program.
 */
#ifndef VARVE_TESTS_CRASH_MODEL_H
#define VARVE_TESTS_CRASH_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_KEYS 24u

/* What a key holds; version 0: nothing. */
struct model_value {
    uint64_t version;
    size_t size; /* bytes of its value, which is the pattern of (key, version) */
};

struct model_state {
    struct model_value keys[MODEL_KEYS];
};

struct model;

struct model *model_new(void);
void model_free(struct model *model);

/* A version that was never used before. */
uint64_t model_next_version(struct model *model);

/* Begins a write; its changes follow. Version 0 is a delete. */
void model_write(struct model *model);
void model_change(struct model *model, unsigned key, uint64_t version, size_t size);

/* Number of writes issued; the marks never fall within a run. */
size_t model_issued(const struct model *model);
void model_ack(struct model *model, size_t prefix);
void model_see(struct model *model, size_t prefix);
size_t model_floor(const struct model *model); /* max(acked, seen) */

/* The number of the last write that touched `key`: the shortest prefix that has it; 0: none that
 * could still be lost. */
size_t model_last_touch(const struct model *model, unsigned key);

/* The state after the first `prefix` writes. */
void model_state_at(const struct model *model, size_t prefix, struct model_state *ret_state);

/* Finds a prefix from the floor on whose state is `recovered`; false if there is none: a violation.
 * On success everything beyond it never happened: it is cut off, and the rest counts as
 * acknowledged, because it was recovered. */
bool model_recover(struct model *model, const struct model_state *recovered);

#endif
