/*
 * wal_reader.h - the frames of one segment, as they are found on disk: what replay, `varve check`
 * and `varve dump` have in common. Only wal*.c include it.
 *
 * A frame is verified whole before anybody sees it, and only sizes that were checked against what
 * remains of the file are allocated or read.
 *
 * Threads:   one thread at a time for a reader.
 * Ownership: a reader owns its file and buffers. What it hands out lies in them, until the next
 *            call that reads.
 * Errors:    ERR_IO (also for a file that becomes shorter under the reader) and ERR_NO_MEMORY are
 *            never taken for the end of the log. ERR_FORMAT: intact bytes of a later version. Each
 *            with a sentence in the detail.
 */
#ifndef VARVE_STORE_LSM_WAL_READER_H
#define VARVE_STORE_LSM_WAL_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/err.h"
#include "store/base/vfs.h"
#include "store/lsm/files.h"
#include "store/lsm/wal.h"

struct wal_reader {
    struct vfs_file *file;
    char name[FILES_NAME_BYTES];
    uint64_t size_bytes; /* of the file when it was opened */
    uint64_t number;     /* by its header */
    uint64_t segment_id; /* by its header; never 0 */

    uint8_t *window; /* [window_begin, window_begin + window_filled) of the file */
    size_t window_capacity, window_filled;
    uint64_t window_begin;
    const struct record **records; /* of the last frame */
    bool damaged; /* what can't be read is passed over: a bad place further on says nothing */
    struct err_detail *detail; /* the caller's; may be NULL */
};

/* One frame that was verified. */
struct wal_frame {
    struct frame_header header;
    const struct record *const *records; /* header.count; NULL if empty */
    uint64_t offset;                     /* in the file */
    uint64_t end;                        /* where the next frame would begin */
};

/* What a segment's header is worth. */
enum wal_header_state {
    WAL_HEADER_INTACT,
    WAL_HEADER_DAMAGED,       /* and frames may stand behind it */
    WAL_HEADER_DAMAGED_ALONE, /* the bytes behind it are all zero: no frame was ever written */
};

/* The checksum of a frame: of its header, then of the checksum fields of its records. */
uint32_t wal_frame_checksum(const struct frame_header *header, const struct record *const records[],
                            size_t n);

/* Opens a segment and checks its header (store_id 0, number UINT64_MAX: any). ERR_NOT_FOUND if
 * there is no such file. A damaged header isn't an error here: *ret_state says so, the detail in
 * words, and segment_id is what the first frame claims, or what the header claims. */
MUST_USE enum err wal_reader_open(struct wal_reader *reader, struct vfs_dir *dir, const char *name,
                                  uint64_t store_id, uint64_t number,
                                  enum wal_header_state *ret_state, struct err_detail *detail);

/* The same for who looks at damage: a header that says a later version, but whose checksum doesn't
 * agree, is damaged. */
MUST_USE enum err wal_reader_open_damaged(struct wal_reader *reader, struct vfs_dir *dir,
                                          const char *name, uint64_t store_id, uint64_t number,
                                          enum wal_header_state *ret_state,
                                          struct err_detail *detail);

/* Also of one that is all zero bytes, or that failed to open. */
void wal_reader_close(struct wal_reader *reader);

/* Verifies the frame at `offset` (a multiple of 8). *ret_why is NULL if it is intact, else says
 * what is wrong, and *ret_frame is left alone. */
MUST_USE enum err wal_reader_frame(struct wal_reader *reader, uint64_t offset,
                                   struct wal_frame *ret_frame, const char **ret_why);

/* The first intact frame at or after `offset`, at 8-byte steps; *ret_found false: there is none.
 *
 * The search goes through whatever bytes are there, also through values. A user could store bytes
 * that look like a frame of this segment only by knowing its id, 64 random bits that no interface
 * shows; copies of frames that were written earlier say nothing that isn't true. What is found so
 * is a witness to what was durable, and never applied. */
MUST_USE enum err wal_reader_find(struct wal_reader *reader, uint64_t offset,
                                  struct wal_frame *ret_frame, bool *ret_found);

/* Looks for a record with number `seq` (0: any) at `offset` (a multiple of 8) of a frame that isn't
 * intact. *ret_record is NULL if there is none of good shape before `limit`; else *ret_size is its
 * size, and *ret_intact says whether its own checksum agrees. */
MUST_USE enum err wal_reader_record(struct wal_reader *reader, uint64_t offset, uint64_t limit,
                                    uint64_t seq, const struct record **ret_record,
                                    uint64_t *ret_size, bool *ret_intact);

/* The size of what stands at `offset` instead of the record before number `seq`, of bad shape: as
 * its fields say, if that record, intact, stands behind it. Else *ret_size is 0. */
MUST_USE enum err wal_reader_step(struct wal_reader *reader, uint64_t offset, uint64_t limit,
                                  uint64_t seq, uint64_t *ret_size);

/* The offset of the first byte at or after `offset` (a multiple of 8) that isn't 0, or the size of
 * the file. */
MUST_USE enum err wal_reader_skip_zeros(struct wal_reader *reader, uint64_t offset,
                                        uint64_t *ret_offset);

#endif
