/*
 * table_rescue.h - reading what is intact of a damaged table, for `varve salvage` and `varve
 * check`.
 *
 * Each record is handed out that is proven to be as it was written: its own checksum agrees, and
 * its block's checksum in the index, which is seeded with file and place, says that it belongs
 * there. A damaged byte costs one record, not its block; filter and properties aren't needed at
 * all. Where the index or what leads to it is damaged, records are read one after the other by
 * their own checksums, up to the first place that can't be stepped over (table_rescue_is_proven()
 * is false then). Bytes are never searched for records: a value may hold another store's files.
 *
 * Threads:   one thread at a time for a rescue.
 * Ownership: table_rescue_free() releases it. The directory is borrowed for its life.
 * Errors:    damage and bytes that can't be read are items; ERR_NO_MEMORY is an error, and so is
 *            a file that can't be opened.
 */
#ifndef VARVE_STORE_LSM_TABLE_RESCUE_H
#define VARVE_STORE_LSM_TABLE_RESCUE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/bytes.h"
#include "store/base/err.h"
#include "store/base/vfs.h"
#include "store/lsm/table.h"

struct table_rescue;

/* The lowest 8 bits of the hashes of keys, as a set: bit b of word ⌊b / 64⌋. */
struct rescue_tags {
    uint64_t words[4];
};

/* In key order: an intact record, or a damaged place between two of them. Valid until the next
 * call. */
struct rescue_item {
    const struct record *record; /* NULL: a damaged place… */
    uint64_t offset;             /* …that begins here */
    struct bytes first_key;      /* keys it may hold, from this one (size 0: from the first)… */
    struct bytes end_key;        /* …up to but without this one (size 0: to the last) */
    uint64_t records;            /* that it may hold; 0: not known */
    struct rescue_tags tags;     /* of the keys that it may hold: all, where that isn't proven */
    struct bytes reads;          /* of one damaged record: the key, as it reads; size 0: not */
    const char *text;            /* what is wrong; NULL: the end of the table */
};

/* Opens the file `name`. `info` is what is known of the table from elsewhere (the manifest); NULL:
 * nothing, then keys before the first record or behind the last one aren't bounded. It is copied.
 * ERR_CORRUPT: the file is another table. May block. */
MUST_USE enum err table_rescue_open(struct vfs_dir *dir, const char *name,
                                    const struct table_info *info, struct table_rescue **ret_rescue,
                                    struct err_detail *detail);

/* May block. */
MUST_USE enum err table_rescue_next(struct table_rescue *rescue, struct rescue_item *ret_item);

/* Whether the damaged place that had these tags may hold `key`, which is in its range. False is
 * proven, by the block's tags or by the filter. For after that item was handed out. */
bool table_rescue_may_hold(const struct table_rescue *rescue, const struct rescue_tags *tags,
                           struct bytes key);

/* Whether the index tells what belongs into the table. */
bool table_rescue_is_proven(const struct table_rescue *rescue);

void table_rescue_free(struct table_rescue *rescue); /* NULL is allowed */

#endif
