/*
 * check.h - looking at a data directory and its files without opening the store.
 *
 * Threads:   any thread. All may block for long.
 * Ownership: what callbacks get lives for the call.
 * Errors:    damage is reported through the callback; a returned error means that the look itself
 * could not be finished, and the detail says why.
 */
#ifndef VARVE_STORE_LSM_CHECK_H
#define VARVE_STORE_LSM_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "store/base/bytes.h"
#include "store/base/err.h"
#include "store/base/vfs.h"
#include "store/lsm/files.h"
#include "store/lsm/manifest.h"
#include "store/lsm/wal.h"

/* One finding. A problem is damage; the others are notes: a torn tail that was never acknowledged,
 * a file that nothing names. */
struct check_finding {
    bool problem;
    const char *file;
    uint64_t offset;        /* in the file */
    bool has_keys;          /* keys from first_key up to but without end_key may be affected; */
    struct bytes first_key; /* size 0: from the first… */
    struct bytes end_key;   /* …to the last */
    uint64_t first_seq, last_seq; /* of a log: numbers of the writes that are lost; 0: none */
    const struct table_key *keys; /* some of the keys, as they read: they may be damaged, too */
    size_t n_keys;
    uint64_t records; /* of a table: that it may hold; 0: not known */
    const char *text;
};

typedef void check_finding_fn(void *arg, const struct check_finding *finding);

struct check_summary {
    uint64_t tables, segments, table_records, log_records, bytes;
    uint64_t problems, notes;
    uint64_t last_seq; /* newest number; of a log that is damaged, the newest that was met */
};

/* Takes apart a detail of the form "NAME, offset N: sentence" or "NAME: sentence": returns the
 * sentence and sets *ret_offset (0 where there is none) and the name. A text of another form is
 * returned whole, and the name is left alone. */
const char *check_take_place(const char *text, char ret_name[FILES_NAME_BYTES],
                             uint64_t *ret_offset);

/* Verifies every checksum and invariant of the directory: manifest, tables (each byte, order,
 * ranges, levels), log segments, and whether they join. Takes the directory's lock: ERR_LOCKED
 * while a server runs; ERR_NOT_FOUND if there is no data directory. A directory of a later format
 * version is a problem that names the versions. Changes nothing. */
MUST_USE enum err check_dir(const struct vfs *vfs, const char *path, check_finding_fn *each,
                            void *arg, struct check_summary *ret_summary,
                            struct err_detail *detail);

/* What `varve dump` shows of a file; each may be called many times, in the file's order. */
struct dump_visitor {
    void (*manifest)(void *arg, const struct manifest *manifest);
    void (*table)(void *arg, const struct table_info *info);
    void (*segment)(void *arg, uint64_t number, uint64_t size_bytes);
    void (*frame)(void *arg, uint64_t offset, const struct frame_header *frame);
    void (*record)(void *arg, const struct record *record);
    void (*damage)(void *arg, uint64_t offset, const char *text);
    void *arg;
};

/* Reads one segment, table or manifest, told by its name, in whatever directory it lies. Needs no
 * lock: of a file that is being written the newest part may show as damage. ERR_INVALID if it is
 * none of ours. */
MUST_USE enum err dump_file(const struct vfs *vfs, const char *path,
                            const struct dump_visitor *visitor, struct err_detail *detail);

#endif
