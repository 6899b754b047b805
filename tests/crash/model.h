/*
 * model.h - what a store must hold, as a list of the writes that claimed numbers.
 *
 * Writes take effect in the order in which they claim their numbers, so the store's state is always
 * that of a prefix of the list. Three marks: `issued` (all of it), `acked` (the longest prefix that
 * was acknowledged) and `seen` (the longest that a reader was shown). After a crash the store says
 * which number is its newest; that must be the last one of a write between max(acked, seen) and
 * issued, and the state must be that of the prefix that ends there: less is loss, or a dirty read;
 * a number in the middle of a write is a torn batch; another state is a hole or a wrong byte.
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

#define MODEL_KEYS       24u
#define MODEL_TEXT_BYTES 256u

/* What a key holds; version 0: nothing, and the rest is 0 too. */
struct model_value {
    uint64_t version; /* never used twice */
    uint64_t size;    /* bytes of its value, which is the pattern of (key, version) */
    uint64_t number;  /* that the store gave it */
};

struct model_state {
    struct model_value keys[MODEL_KEYS];
};

struct model;

/* Empty; the first write gets number 1. */
struct model *model_new(void);
void model_free(struct model *model);

/* A version that was never used before. */
uint64_t model_next_version(struct model *model);
/* The number that the next change gets. */
uint64_t model_next_number(const struct model *model);

/* Begins a write; its changes follow, each with the next number (value->number is set). */
void model_write(struct model *model);
void model_change(struct model *model, unsigned key, struct model_value *value);

/* Number of writes issued; the marks never fall within a run. */
size_t model_issued(const struct model *model);
void model_ack(struct model *model, size_t prefix);
void model_see(struct model *model, size_t prefix);
size_t model_floor(const struct model *model); /* max(acked, seen) */

/* The number of the last write that touched `key`: the shortest prefix that has it; 0: none that
 * could still be lost. */
size_t model_last_touch(const struct model *model, unsigned key);

/* The state after the first `prefix` writes, which is not below what was recovered last. */
void model_state_at(const struct model *model, size_t prefix, struct model_state *ret_state);

bool model_value_equal(struct model_value a, struct model_value b);

/* Says whether a store with this state and newest number is what a crash may leave; if not, why. If
 * so, everything beyond it never happened: it is cut off, and the rest counts as acknowledged,
 * because it was recovered. */
bool model_recover(struct model *model, const struct model_state *recovered, uint64_t last_number,
                   char ret_why[MODEL_TEXT_BYTES]);

#endif
