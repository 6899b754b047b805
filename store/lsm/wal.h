/*
 * wal.h - write-ahead log: the copy of a write that survives a crash.
 *
 * One segment per memtable; a segment is a run of frames (FORMAT.md, "Segment"). A frame is the
 * unit of atomicity: after a crash it is there as a whole or not at all. A segment's blocks are all
 * written (zeros) and synced before it is used, because fdatasync over blocks that were written
 * before needs no journal commit.
 *
 * Threads:   wal_create(): background thread. Append and sync: log thread; nothing here locks.
 * Ownership: wal_close() releases the struct and its descriptor. Records are borrowed for the call.
 * Errors:    after a failed append or sync every later one of the segment fails alike: a failed
 *            fsync may have dropped the dirty pages it reported (Rebello et al., ATC'20).
 */
#ifndef VARVE_STORE_LSM_WAL_H
#define VARVE_STORE_LSM_WAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/err.h"
#include "store/base/vfs.h"
#include "store/lsm/record.h"

#define WAL_FIRST_FRAME_OFFSET UINT64_C(4096)
#define WAL_FRAME_HEADER_BYTES 48u
/* Records of one frame at most; callers cut their runs accordingly (a batch is never cut). */
#define WAL_FRAME_RECORDS_MAX 16384u

struct frame_header {
    uint64_t segment_id;    /* the segment's file_id: tells this use of the bytes from older ones */
    uint32_t records_bytes; /* that follow this header, a multiple of 8; 0 for an empty frame */
    uint32_t count;         /* of records */
    uint64_t first_seq; /* of record 0; record i has first_seq + i. Empty frame: the next number */
    uint64_t durable_upto; /* the greatest number known durable when this was written */
    uint64_t reserved;     /* 0 */
    uint32_t reserved1;    /* 0 */
    uint32_t checksum; /* CRC-32C of the header up to here, then of each record's checksum field */
};

_Static_assert(sizeof(struct frame_header) == WAL_FRAME_HEADER_BYTES, "FORMAT.md says 48");

struct wal; /* one segment open for appending */

/* Creates segment `number` of `size_bytes` (a multiple of 4096), pre-written with zeros. Contents,
 * header, name and directory are synced on return. On failure *ret_wal is left alone and the file
 * is removed. May block. */
MUST_USE enum err wal_create(struct vfs_dir *dir, uint64_t number, uint64_t store_id,
                             uint64_t segment_id, uint64_t size_bytes, struct wal **ret_wal);

/* Closes the descriptor; the file stays. NULL is allowed. */
void wal_close(struct wal *wal);

uint64_t wal_number(const struct wal *wal);
uint64_t wal_capacity_bytes(const struct wal *wal);

/* Bytes used so far, header included. */
uint64_t wal_used_bytes(const struct wal *wal);

/* Writes one frame of `n` sealed records with numbers first_seq, first_seq + 1, … (n 0: an empty
 * frame); durable_upto is below first_seq. The caller has made sure that it fits. Durable only
 * after wal_sync(). May block. */
MUST_USE enum err wal_append(struct wal *wal, uint64_t first_seq, uint64_t durable_upto,
                             const struct record *const records[], size_t n);

/* Returns ERR_OK only once every frame appended so far is on disk. May block. */
MUST_USE enum err wal_sync(struct wal *wal);

/* --- Replay ----------------------------------------------------------------------------------- */

/* Called for each intact frame in order, empty ones too; the records (8-aligned) live for the call.
 * An error stops the replay and is handed on. */
typedef enum err wal_frame_fn(void *arg, const struct frame_header *frame,
                              const struct record *const records[], uint64_t segment_number,
                              uint64_t offset);

typedef void wal_progress_fn(void *arg, uint64_t done_bytes, uint64_t total_bytes);

struct wal_replay {
    uint64_t next_seq;                  /* one above the last number replayed */
    uint64_t frames, records;           /* replayed */
    bool torn;                          /* an unacknowledged tail was dropped… */
    uint64_t torn_segment, torn_offset; /* …from here */
    struct err_detail warning; /* for the operator: what was dropped or passed over, or "" */
};

/* Reads the segments `numbers` (ascending) in order and hands on every frame from `next_seq` on
 * (frames that lie wholly below it are passed over: the tables have them). A frame is verified
 * whole before it is handed on, and one is in memory at a time.
 *
 * Where no intact frame with the next number joins on, and zeros to the end of the file don't end
 * the segment, the log ends (FORMAT.md, "Replay"): if anything intact beyond that place says that
 * the first missing number was durable, ERR_CORRUPT; the detail names file, offset, the numbers
 * affected and `varve check`. Else it is a torn tail: *ret says where, and the rest is dropped.
 * ERR_CORRUPT also for a missing file and for a damaged file header, before any frame is handed on.
 * An error of reading is never taken for the end of the log. After an error `each` has seen an
 * intact prefix of what is to be replayed. `progress` may be NULL. May block. */
MUST_USE enum err wal_replay(struct vfs_dir *dir, uint64_t store_id, const uint64_t numbers[],
                             size_t n_numbers, uint64_t next_seq, wal_frame_fn *each,
                             wal_progress_fn *progress, void *arg, struct wal_replay *ret,
                             struct err_detail *detail);

/* Reads one segment alone, frame by frame, for `varve dump` and `varve check`: hands on every
 * intact frame; at a bad place calls `bad` (offset, what it found), looks on at 8-byte steps and
 * goes on. Numbers that don't join and a damaged file header are bad places too; zeros to the end
 * of the file are a clean end, without a call. Errors: of the file itself, of `each`, and
 * ERR_FORMAT for a later version. */
typedef void wal_bad_fn(void *arg, uint64_t offset, const char *text);
MUST_USE enum err wal_read_segment(struct vfs_dir *dir, const char *name, wal_frame_fn *each,
                                   wal_bad_fn *bad, void *arg, struct err_detail *detail);

#endif
