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

/* Appends the records first_seq to first_seq + count - 1 as one frame and syncs. */
struct made_frame made_append(struct wal *wal, uint64_t first_seq, uint32_t count,
                              uint64_t durable_upto);

/* The bytes of a file; the caller frees. */
uint8_t *file_load(struct vfs_dir *dir, const char *name, uint64_t *ret_size);

/* Replaces a file, or makes it. */
void file_store(struct vfs_dir *dir, const char *name, const void *bytes, uint64_t size);

/* Writes over a part of a file. */
void file_patch(struct vfs_dir *dir, const char *name, uint64_t offset, const void *bytes,
                size_t size);

#endif
