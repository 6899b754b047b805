/*
 * table_format.h - the bytes of a table (FORMAT.md, "Table"), for the sources named table_*.c.
 *
 * Threads:   any thread; these are plain values.
 * Ownership: nothing is owned.
 * Errors:    none.
 */
#ifndef VARVE_STORE_LSM_TABLE_FORMAT_H
#define VARVE_STORE_LSM_TABLE_FORMAT_H

#include <stdint.h>

#include "store/lsm/table.h"

#define TABLE_DATA_OFFSET       UINT64_C(4096) /* of the first block: behind the header */
#define TABLE_REGION_ALIGN      UINT64_C(64)
#define TABLE_GAP_MAX_BYTES     (TABLE_PAGE_BYTES - 8) /* before a block */
#define TABLE_BLOCK_RECORDS_MAX 256u

struct index_header {
    uint64_t blocks;
    uint64_t separator_bytes; /* of all */
    uint32_t common_bytes;    /* that all keys begin with alike */
    uint32_t reserved0;       /* 0 */
    uint64_t reserved1;       /* 0 */
};

/* Behind the header: a prefix (8 bytes) of each block, then an entry of each, then the separators.
 */
struct index_entry {
    uint64_t offset;           /* of the block in the file */
    uint32_t size_units;       /* of the block, in units of 8 bytes */
    uint32_t checksum;         /* see block_checksum() */
    uint32_t separator_offset; /* among the separators */
    uint16_t separator_size;
    uint16_t records;
};

struct table_region {
    uint64_t offset;
    uint64_t size_bytes;
};

enum table_region_kind { REGION_INDEX, REGION_FILTER, REGION_PROPERTIES, REGIONS };

struct table_footer {
    uint8_t magic[8]; /* TABLE_FOOTER_MAGIC */
    uint32_t format_version;
    uint32_t reserved0; /* 0 */
    uint64_t store_id;
    uint64_t number;
    uint64_t file_id;
    uint64_t size_bytes; /* of the whole file */
    struct table_region regions[REGIONS];
    uint32_t checksums[REGIONS]; /* CRC(file id, region) */
    uint32_t reserved1;          /* 0 */
    uint64_t reserved2;          /* 0 */
    uint32_t reserved3;          /* 0 */
    uint32_t checksum;           /* of the bytes before */
};

#define TABLE_FOOTER_MAGIC "varve\r\nF"

/* Sections of the properties. */
enum table_tag { TABLE_TAG_COUNTS = 1, TABLE_TAG_SMALLEST = 2, TABLE_TAG_LARGEST = 3 };

struct table_counts {
    uint64_t records, markers;
    uint64_t min_seq, max_seq;
    uint64_t data_bytes;
};

_Static_assert(sizeof(struct index_header) == 32, "FORMAT.md says 32");
_Static_assert(sizeof(struct index_entry) == 24, "FORMAT.md says 24");
_Static_assert(sizeof(struct table_footer) == 128, "FORMAT.md says 128");
_Static_assert(sizeof(struct table_counts) == 40, "FORMAT.md says 40");

/* Where the next region begins at the earliest. */
static inline uint64_t table_region_begin(uint64_t offset)
{
    return (offset + TABLE_REGION_ALIGN - 1) & ~(TABLE_REGION_ALIGN - 1);
}

static inline struct bytes table_key_bytes(const struct table_key *key)
{
    return bytes_of(key->data, key->size);
}

/* Bytes that both begin with. */
static inline uint32_t table_common_bytes(struct bytes a, struct bytes b)
{
    const uint8_t *x = a.data;
    const uint8_t *y = b.data;
    uint32_t n = 0;
    while (n < a.size && n < b.size && x[n] == y[n]) {
        n++;
    }
    return n;
}

/* The number that orders a block in the index: of its separator or of a key that is looked up, both
 * of at least `common` bytes. */
static inline uint64_t table_prefix(struct bytes key, uint32_t common)
{
    return bytes_prefix(bytes_of((const uint8_t *)key.data + common, key.size - common));
}

#endif
