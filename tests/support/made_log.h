/*
 * made_log.h - log segments whose every byte follows from sequence numbers, and hands that damage
 * them.
 *
 * Threads:   one at a time.
 * Ownership: said at each function.
 * Errors:    what fails that a test takes for granted ends the program.
 */
#ifndef VARVE_TESTS_SUPPORT_MADE_LOG_H
#define VARVE_TESTS_SUPPORT_MADE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/base/vfs.h"
#include "store/lsm/record.h"
#include "store/lsm/wal.h"
#include "tests/support/temp_dir.h"

#define MADE_STORE_ID  UINT64_C(0x5709e1d000000001)
#define MADE_LARGE_SEQ UINT64_C(1000000) /* this number's value is long enough to have chunks */

/* Record number `seq`: small ones of many shapes, every fifth a delete marker. The caller frees. */
struct record *made_record_new(uint64_t seq);

/* True if `record` is record number `seq` and every byte is right. */
bool made_record_is(const struct record *record, uint64_t seq);

/* Where a frame was written. */
struct made_frame {
    uint64_t segment, offset, end;
    uint64_t first_seq, durable_upto;
    uint32_t count;
};

/* Creates a segment (ids follow from its number). The caller closes. */
struct wal *made_segment(struct vfs_dir *dir, uint64_t number, uint64_t size_bytes);

/* The random id of segment `number`. */
uint64_t made_segment_id(uint64_t number);

/* Appends the records first_seq to first_seq + count - 1 as one frame, without syncing. */
MUST_USE enum err made_try_append(struct wal *wal, uint64_t first_seq, uint32_t count,
                                  uint64_t durable_upto);

/* Appends the records first_seq to first_seq + count - 1 as one frame and syncs. */
struct made_frame made_append(struct wal *wal, uint64_t first_seq, uint32_t count,
                              uint64_t durable_upto);

/* --- A log of three segments ------------------------------------------------------------------ */

enum { MADE_SEGMENTS = 3, MADE_FRAMES_MAX = 64 };

#define MADE_SEGMENT_BYTES UINT64_C(8192)

extern const uint64_t made_numbers[MADE_SEGMENTS]; /* 1, 2, 3 */

struct made_log {
    struct vfs_dir *dir;
    char path[TEMP_DIR_BYTES];
    struct made_frame frames[MADE_FRAMES_MAX]; /* in the order of writing */
    size_t n_frames;
    uint8_t *written[MADE_SEGMENTS]; /* the bytes of each segment before any damage */
    uint64_t size_bytes[MADE_SEGMENTS];
};

/* A frame to be: its segment, its records (numbered on), its durable_upto. */
struct made_plan {
    uint64_t segment;
    uint32_t count;
    uint64_t durable_upto;
};

/* Writes a log of `n` frames into a new directory of `vfs`, a temporary one with vfs_posix(). The
 * caller frees; that removes what was written. */
struct made_log *made_log_new(const struct vfs *vfs, const struct made_plan *plan, size_t n,
                              uint64_t segment_bytes);
void made_log_free(struct made_log *log);

/* As the engine writes: each frame synced before the next one, a spare segment at the end. */
struct made_log *made_log_synced(const struct vfs *vfs);

/* Several frames written before one sync, also across segments. */
struct made_log *made_log_pipelined(const struct vfs *vfs);

/* The number after the last one written; where the frames of a segment end. */
uint64_t made_log_end_seq(const struct made_log *log);
uint64_t made_log_end_of(const struct made_log *log, uint64_t segment);

/* The file name of a segment; lives until the next call. */
const char *made_name(uint64_t segment);

/* Damages a segment: writes over it, writes zeros over it, cuts it off, and mends it. */
void made_log_patch(struct made_log *log, uint64_t segment, uint64_t offset, const void *bytes,
                    size_t size);
void made_log_zero(struct made_log *log, uint64_t segment, uint64_t offset, uint64_t size);
void made_log_cut(struct made_log *log, uint64_t segment, uint64_t size_bytes);
void made_log_mend(struct made_log *log, uint64_t segment);

/* --- Files ------------------------------------------------------------------------------------ */

/* The bytes of a file; the caller frees. */
uint8_t *file_load(struct vfs_dir *dir, const char *name, uint64_t *ret_size);

/* Replaces a file, or makes it. */
void file_store(struct vfs_dir *dir, const char *name, const void *bytes, uint64_t size);

/* Writes over a part of a file. */
void file_patch(struct vfs_dir *dir, const char *name, uint64_t offset, const void *bytes,
                size_t size);

#endif
