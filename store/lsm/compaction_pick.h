/*
 * compaction_pick.h - which tables to merge next: shape of the levels, scores, picks.
 *
 * Level 0 has the flushed tables: ranges overlap, newest first. It is merged into the *base level*,
 * and each level from there into the next, down to the last one. What a level may hold is derived
 * from the last level's actual size: a tenth, level by level upward, for as long as that is worth a
 * level of its own. So about a tenth of the space is overhead whatever the store's size, and a
 * small store has one level below level 0.
 *
 * Of every key, the version that is met first, from level 0 down, is the newest. A pick keeps it
 * so: from level 0 it takes the oldest table and everything in the level that overlaps with it,
 * directly or through others; from another level one table; and from the output level all that
 * overlaps with these.
 *
 * Threads:   compaction thread.
 * Ownership: a pick has references on its tables.
 * Errors:    ERR_NO_MEMORY.
 * Source:    dynamic level targets as in Dong et al., "Optimizing Space Amplification in RocksDB",
 *            CIDR 2017.
 */
#ifndef VARVE_STORE_LSM_COMPACTION_PICK_H
#define VARVE_STORE_LSM_COMPACTION_PICK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/lsm/edit.h"
#include "store/lsm/merge.h"
#include "store/lsm/view.h"

#define COMPACTION_LAST_LEVEL (MANIFEST_LEVELS - 1)
/* A level may hold so many times what the one above it may. */
#define COMPACTION_LEVEL_FACTOR 10u
#define COMPACTION_PASSES       3u /* over each byte: read, written, read back */
/* Size at which an output ends, unless memtables are smaller. */
#define COMPACTION_TABLE_BYTES (UINT64_C(64) << 20)

struct compaction_shape {
    uint64_t table_bytes; /* size at which an output ends */
    uint64_t level_bytes[MANIFEST_LEVELS];
    /* The same, with each delete marker as heavy as what it is likely to free below: so that space
     * comes back before as many bytes of markers have come together. */
    uint64_t weight_bytes[MANIFEST_LEVELS];
    uint64_t target_bytes[MANIFEST_LEVELS]; /* of the base level and those below it */
    uint32_t base_level;
    size_t level0_due;   /* tables of level 0 from which on it is merged */
    uint64_t debt_bytes; /* to read until nothing is due, an estimate */
};

void compaction_shape_of(const struct view *view, uint64_t memtable_bytes,
                         struct compaction_shape *ret_shape);

/* Numbers of tables that can't be read whole: none of them is picked again. */
struct compaction_damage {
    uint64_t *numbers;
    size_t n_numbers;
};

struct compaction_pick {
    bool full;     /* everything there is */
    bool move;     /* the one input only changes its level: no byte is rewritten */
    bool in_steps; /* space is short: what is done takes its inputs' place before all is */
    uint32_t level, output_level;
    size_t n_inputs;
    struct engine_edit_table *inputs;
    struct table **tables;  /* the inputs again, in the same order: of which the runs consist */
    struct merge_run *runs; /* newest first */
    size_t n_runs;
    /* What lies below the output level within the inputs' range, by level: older than all inputs.
     */
    struct table **older_tables;
    struct merge_run older[MANIFEST_LEVELS];
};

/* About how many bytes other levels move before level 0 gets its turn. */
uint64_t compaction_bytes_before_level0(const struct view *view,
                                        const struct compaction_shape *shape);

/* Picks what is due: the level furthest beyond what it should be, level 0 by its tables and the
 * others by their bytes. *ret_found false: nothing. *ret_blocked: level 0 is due but damage is in
 * the way. */
MUST_USE enum err compaction_pick_due(const struct view *view, const struct compaction_shape *shape,
                                      const struct compaction_damage *damage,
                                      struct compaction_pick *ret_pick, bool *ret_found,
                                      bool *ret_blocked);

/* Picks everything. *ret_found false: it is one run without delete markers already. */
MUST_USE enum err compaction_pick_full(const struct view *view, struct compaction_pick *ret_pick,
                                       bool *ret_found);

/* Drops the references and frees the arrays. */
void compaction_pick_release(struct compaction_pick *pick, struct store *store);

#endif
