/*
 * wal_rescue.h - reading what is intact of a damaged log, for `varve salvage` and `varve check`.
 *
 * Of a sound log it hands out what replay does (wal.h). Where replay would refuse, because writes
 * that were on disk once are damaged or missing, it steps over them, says which, and goes on. What
 * no intact frame says was on disk is a torn tail and ends the log here too.
 *
 * Of a damaged frame those records are handed out whose own checksum agrees. They are found by
 * stepping from record to record, never by a search: values may hold anything.
 *
 * Threads:   any thread.
 * Ownership: what callbacks get lives for the call.
 * Errors:    damage and bytes that can't be read are told; ERR_NO_MEMORY, ERR_FORMAT and what
 *            `each` returns are errors.
 */
#ifndef VARVE_STORE_LSM_WAL_RESCUE_H
#define VARVE_STORE_LSM_WAL_RESCUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/err.h"
#include "store/base/vfs.h"
#include "store/lsm/files.h"
#include "store/lsm/record.h"
#include "store/lsm/table.h"

#define WAL_RESCUE_KEYS_MAX 8u /* keys that are told of one place */

/* A segment, in the order of the log. */
struct wal_rescue_file {
    uint64_t number;
    char name[FILES_NAME_BYTES]; /* that it has in the directory; "": it is missing */
};

enum wal_place_kind {
    WAL_PLACE_LOST,     /* writes that were on disk once are damaged or missing */
    WAL_PLACE_HARMLESS, /* damage, but it hides no write */
    WAL_PLACE_TORN,     /* the end of the log, as a crash leaves it: never acknowledged */
};

struct wal_place {
    enum wal_place_kind kind;
    const char *file;
    uint64_t offset;
    uint64_t first_seq, last_seq; /* lost: the numbers (0: told with the place before)… */
    uint64_t lost;                /* …of which so many are */
    const struct table_key *keys; /* of lost writes, as they read, */
    size_t n_keys;                /* where they can be read */
    const char *text;
};

typedef enum err wal_rescue_record_fn(void *arg, const struct record *record, const char *file);
typedef void wal_rescue_place_fn(void *arg, const struct wal_place *place);

struct wal_rescued {
    uint64_t next_seq; /* one above every number that was met */
    uint64_t records;  /* handed out */
    uint64_t lost;     /* writes */
};

/* Every number up to covered_seq is in the tables and never lost; records from from_seq on are
 * handed out in order, none twice. store_id 0: any. May block. */
MUST_USE enum err wal_rescue(struct vfs_dir *dir, uint64_t store_id,
                             const struct wal_rescue_file files[], size_t n_files,
                             uint64_t covered_seq, uint64_t from_seq, wal_rescue_record_fn *each,
                             wal_rescue_place_fn *place, void *arg, struct wal_rescued *ret,
                             struct err_detail *detail);

#endif
