/*
 * record.h - one version of one key: the same bytes in the log, in the memtable and in the tables.
 *
 * Layout (FORMAT.md, "Record"): header of 40 bytes, key, metadata, zeros to a multiple of 8; for a
 * value longer than RECORD_CHUNK_BYTES the checksums of its chunks, zeros to a multiple of 8; the
 * value, zeros to a multiple of 8. A record lies on a multiple of 8, so a reader casts and never
 * parses.
 *
 * A record is made in three moves: record_init() writes header, key and metadata and says where the
 * value goes; record_payload_checksum() covers everything but the header; record_seal() sets
 * sequence number and flags and completes the checksum. The first two are the expensive ones and
 * need no sequence number.
 *
 * Threads:   any thread; a record has one owner until it is sealed and never changes after.
 * Ownership: records lie in memory of the caller's.
 * Errors:    ERR_CORRUPT for bytes that can't be a record or whose checksum is wrong, ERR_FORMAT
 *            for a kind or a must-understand flag of a later version (which a flipped bit can look
 *            like).
 */
#ifndef VARVE_STORE_LSM_RECORD_H
#define VARVE_STORE_LSM_RECORD_H

#include <stdint.h>

#include "store/base/bytes.h"
#include "store/base/err.h"

#define RECORD_CHUNK_BYTES   UINT64_C(65536) /* of a long value that one checksum covers */
#define RECORD_KEY_MAX_BYTES 1024u           /* keys have 1 to this many bytes */
#define RECORD_VALUE_MAX_BYTES \
    (UINT64_C(1) << 32)                          /* sanity limit of the format; options are lower */
#define RECORD_SEQ_MAX ((UINT64_C(1) << 48) - 1) /* what a store counts with: commit.h */

enum record_kind {
    RECORD_PUT = 1,
    RECORD_DELETE = 2,
    /* Numbers held for later: 3 value stored elsewhere, 4 range delete, 5 merge. Refused today. */
};

/* Must-understand flags: a bit that is not listed here is refused (ERR_FORMAT). */
enum record_flag {
    RECORD_LAST_OF_BATCH = 1 << 0,
};

struct record {
    uint32_t checksum;   /* CRC-32C of the payload, then of the header after this field */
    uint8_t kind;        /* enum record_kind */
    uint8_t flags;       /* must-understand bits */
    uint8_t hints;       /* may-ignore bits, written as 0 */
    uint8_t reserved0;   /* 0 */
    uint16_t key_size;   /* bytes, 1 to RECORD_KEY_MAX_BYTES */
    uint16_t meta_size;  /* bytes */
    uint32_t reserved1;  /* 0 */
    uint64_t value_size; /* bytes */
    uint64_t seq;        /* sequence number, 1 to RECORD_SEQ_MAX */
    uint64_t expiry_ms;  /* held for later, 0 */
    uint8_t payload[];   /* begins with the key */
};

_Static_assert(sizeof(struct record) == 40, "FORMAT.md says 40");
_Static_assert(_Alignof(struct record) == 8, "FORMAT.md says 8");

/* Metadata: a run of (tag, size, bytes); unknown tags are skipped. */
enum record_tag {
    RECORD_TAG_MODIFIED_MS = 1, /* 8 bytes: milliseconds since 1970 UTC of the write */
    RECORD_TAG_CONTENT_TYPE = 2,
    RECORD_TAG_CONTENT_ENCODING = 3,
    RECORD_TAG_CACHE_CONTROL = 4,
};

/* What the metadata says; an absent time is 0, absent texts have size 0. The bytes lie in the
 * record. */
struct record_meta {
    uint64_t modified_ms;
    struct bytes content_type;
    struct bytes content_encoding;
    struct bytes cache_control;
};

/* Bytes that `meta` takes encoded; each text has at most 256 bytes. */
uint16_t record_meta_size(const struct record_meta *meta);

/* Bytes of a whole record, a multiple of 8; the inputs are within the limits above. */
uint64_t record_size_for(uint16_t key_size, uint16_t meta_size, uint64_t value_size);

/* The same of a record that was checked or made here. */
uint64_t record_size(const struct record *record);

/* Writes header, key, metadata and all padding of a record of kind `kind` into `into` (8-aligned,
 * record_size_for() bytes; meta NULL: none). Returns where its value goes (value_size bytes). */
void *record_init(void *into, enum record_kind kind, struct bytes key,
                  const struct record_meta *meta, uint64_t value_size);

/* Sets the time of a record that was made with one, before the next step. */
void record_set_modified(struct record *record, uint64_t modified_ms);

/* Once the value is in place: writes the chunk checksums and returns the payload's checksum. */
uint32_t record_payload_checksum(struct record *record);

/* Completes the record. No change afterwards. Cheap, never fails, never blocks. */
void record_seal(struct record *record, uint32_t payload_checksum, uint64_t seq, uint8_t flags);

/* Checks that `available` bytes at `at` begin with the shape of a whole record: sizes, kind, flags,
 * reserved fields. Does not read beyond the header. On success *ret_size is its size. */
MUST_USE enum err record_check_shape(const void *at, uint64_t available, uint64_t *ret_size);

/* Checks a record of good shape, all of it: header, metadata, padding and every checksum. */
MUST_USE enum err record_verify(const struct record *record);

/* The same in two parts, so that a short range of a long value is cheap: everything but a long
 * value and the padding behind it, of which nothing is read; and only the chunks that hold `size`
 * bytes from `offset` of the value (none if the value isn't long: the first part covers it). A
 * chunk's bytes are good once both parts said so. */
MUST_USE enum err record_verify_head(const struct record *record);
MUST_USE enum err record_verify_value(const struct record *record, uint64_t offset, uint64_t size);

/* Chunks of a long value, 0 of others; the bytes of chunk `i`, which for the last one end with the
 * padding; and the second part for that chunk alone, wherever its bytes lie. */
uint64_t record_chunks(const struct record *record);
uint64_t record_chunk_bytes(const struct record *record, uint64_t i);
MUST_USE enum err record_verify_chunk(const struct record *record, uint64_t i, const void *chunk);

static inline struct bytes record_key(const struct record *record)
{
    return bytes_of(record->payload, record->key_size);
}

/* The value; of a delete marker: empty. */
struct bytes record_value(const struct record *record);

/* Offset of the value from the record's begin. */
uint64_t record_value_offset(const struct record *record);

/* Decodes the metadata; a record that was verified always has a well-formed one. */
void record_meta_get(const struct record *record, struct record_meta *ret_meta);

#endif
