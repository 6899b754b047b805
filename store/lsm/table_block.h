/*
 * table_block.h - one block of a table: making its tail, verifying it, finding records in it.
 *
 * A block is a run of records, then an array of their offsets and one of tags, a byte of each key's
 * hash. A lookup compares the tags (one or two cache lines) and then nearly always one key; an
 * ordered search bisects the offsets.
 *
 * Threads:   any thread.
 * Ownership: blocks are borrowed bytes: of the map, or of a stream's buffer.
 * Errors:    enum block_fault; BLOCK_OK is 0. Even in a verified block nothing is followed out of
 *            its bounds: a page may be read from the disk again, with other bytes.
 */
#ifndef VARVE_STORE_LSM_TABLE_BLOCK_H
#define VARVE_STORE_LSM_TABLE_BLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "store/lsm/record.h"
#include "store/lsm/table_format.h"

/* X(code, text): what is wrong with a block, as the end of a sentence. */
#define BLOCK_FAULT_TABLE(X)                                                    \
    X(BLOCK_OK, "ok")                                                           \
    X(BLOCK_UNREADABLE, "the disk can't read it")                               \
    X(BLOCK_BAD_SHAPE, "bytes that can't be a record")                          \
    X(BLOCK_BAD_RECORD, "a record's checksum doesn't agree")                    \
    X(BLOCK_BAD_TAIL, "record offsets or tags are wrong")                       \
    X(BLOCK_BAD_ORDER, "keys are out of order or out of the block's range")     \
    X(BLOCK_BAD_CHECKSUM, "the block's checksum doesn't agree with the index")  \
    X(BLOCK_BAD_VALUE, "a value's checksum doesn't agree")                      \
    X(BLOCK_CHANGED, "bytes have changed since they were verified")             \
    X(BLOCK_BAD_GAP, "bytes before a block or region aren't zero")              \
    X(BLOCK_BAD_FILTER, "a key isn't in the filter")                            \
    X(BLOCK_BAD_SEPARATOR, "the index has another separator than the keys say") \
    X(BLOCK_BAD_PROPERTIES, "the properties don't agree with the records")      \
    X(BLOCK_BAD_REGION, "the region's checksum doesn't agree with the footer")  \
    X(BLOCK_BAD_FRAME, "header or footer aren't what they were")                \
    X(BLOCK_CUT_OFF, "the file ends before")

#define BLOCK_FAULT_ENTRY(code, text) code,
enum block_fault { BLOCK_FAULT_TABLE(BLOCK_FAULT_ENTRY) };
#undef BLOCK_FAULT_ENTRY

/* Never NULL. */
const char *block_fault_text(enum block_fault fault);

/* ERR_OK, ERR_IO or ERR_CORRUPT. */
enum err block_fault_err(enum block_fault fault);

struct block {
    const uint8_t *data; /* of the records */
    const uint8_t *tail; /* behind them in the file */
    uint64_t records_bytes;
    uint64_t size_bytes; /* of all */
    uint32_t records;
};

static inline uint64_t block_tail_bytes(uint32_t records)
{
    return align8(UINT64_C(3) * records);
}

/* The block at `data` that `entry`, which was verified, tells of. */
struct block block_of(const uint8_t *data, const struct index_entry *entry);

/* Writes the tail of a block of `n` records with these offsets and tags; returns its size. */
uint64_t block_make_tail(uint8_t into[], const uint16_t offsets[], const uint8_t tags[],
                         uint32_t n);

/* The checksum that the index keeps: over file id, offset of the block in the file, the records'
 * checksums, and the tail. */
uint32_t block_checksum(uint64_t file_id, uint64_t offset, const uint32_t record_checksums[],
                        uint32_t n, const uint8_t *tail);

/* Which keys belong into a block: from its separator, which its first key begins with, up to but
 * without the next block's (size 0: there is none). */
struct block_range {
    struct bytes separator, next_separator;
};

/* Verifies all of the block but chunks of long values, and reads nothing of those, nor out of the
 * block's bounds. */
enum block_fault block_verify(struct block block, const struct index_entry *entry,
                              struct block_range range, uint64_t file_id);

/* Record `slot`, which is below block.records. */
enum block_fault block_record(struct block block, uint32_t slot, const struct record **ret_record);

/* The record with this key, whose hash the caller has, or NULL. */
enum block_fault block_find(struct block block, struct bytes key, uint64_t hash,
                            const struct record **ret_record);

/* The number of records with a key < `key`. */
enum block_fault block_rank(struct block block, struct bytes key, uint32_t *ret_rank);

#endif
