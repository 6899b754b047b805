/*
 * salvage.h - copying what is intact of a damaged data directory into a new one.
 *
 * The newest intact version of each key is copied, with its metadata and time of writing. The copy
 * has another store id and epoch, so that no version that was ever shown stands for other bytes.
 *
 * An older value is never brought back in silence. Where a damaged place of a table may have held a
 * newer version of a key, the older one is left out and told (or, when asked for, copied and told).
 * Of a damaged place in the log only the numbers may be known: then which keys it hid isn't, and
 * that is told.
 *
 * Without a manifest all tables and segments that are there are taken: the greatest number of each
 * key wins, and delete markers hold. What had been deleted may come back then, if a compaction's
 * inputs were still there that it had replaced: that is told, too.
 *
 * Threads:   any thread. May block for long.
 * Ownership: what callbacks get lives for the call.
 * Errors:    damage is told through the callback; a returned error means that there is no copy.
 */
#ifndef VARVE_STORE_LSM_SALVAGE_H
#define VARVE_STORE_LSM_SALVAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/err.h"
#include "store/base/vfs.h"
#include "store/lsm/check.h"

enum salvage_kind {
    SALVAGE_NOTE,  /* damage by which nothing was lost, or something to know */
    SALVAGE_LOST,  /* records of these keys or numbers are lost */
    SALVAGE_OLDER, /* of this key a newer version may be lost */
};

typedef void salvage_finding_fn(void *arg, enum salvage_kind kind,
                                const struct check_finding *finding);

struct salvage_summary {
    uint64_t tables, segments; /* that were read */
    uint64_t keys, bytes;      /* copied; bytes of the copy's files */
    uint64_t places;           /* SALVAGE_LOST */
    uint64_t lost_records;     /* of these places, as far as known… */
    bool more_lost;            /* …and there may be more */
    uint64_t older;            /* SALVAGE_OLDER */
};

struct salvage_options {
    const char *from, *to;
    bool older; /* copy what a lost version may have replaced */
};

/* Reads `from`, whose lock it takes, and changes nothing there. `to` must not exist or be empty
 * (ERR_EXISTS); it can be opened only once this has returned ERR_OK. Memory is bounded. ERR_LOCKED
 * while a server runs, ERR_NOT_FOUND if `from` is no data directory, ERR_FORMAT if a later version
 * wrote it, ERR_CORRUPT if numbers are met that no store comes to, ERR_NO_SPACE. After an error the
 * files that were made are removed again. */
MUST_USE enum err salvage_dir(const struct vfs *vfs, const struct salvage_options *options,
                              salvage_finding_fn *each, void *arg,
                              struct salvage_summary *ret_summary, struct err_detail *detail);

#endif
