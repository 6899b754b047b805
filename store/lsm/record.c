/*
 * Encoding and checking of records. See record.h for the contract and FORMAT.md for the bytes.
 *
 * Sizes: key and metadata have 16 bits and the value is checked against 2^32 before anything is
 * added to it, so no sum here comes near 64 bits, not even one over hostile bytes.
 */
#include "store/lsm/record.h"

#include <assert.h>
#include <string.h>

#include "store/base/crc32c.h"

#define HEADER_BYTES ((uint64_t)sizeof(struct record))
#define KNOWN_FLAGS  ((uint8_t)RECORD_LAST_OF_BATCH)

enum {
    ENTRY_BYTES = 4, /* of a metadata entry before its own bytes: tag, zero, size */
    MODIFIED_BYTES = 8,
    TEXT_MAX_BYTES = UINT8_MAX + 1,
};

/* Layout. */

static uint64_t chunk_count(uint64_t value_size)
{
    if (value_size <= RECORD_CHUNK_BYTES) {
        return 0;
    }
    return (value_size + RECORD_CHUNK_BYTES - 1) / RECORD_CHUNK_BYTES;
}

/* Where the chunk checksums begin, or the value if there are none. */
static uint64_t chunks_offset(uint16_t key_size, uint16_t meta_size)
{
    return align8(HEADER_BYTES + key_size + meta_size);
}

static uint64_t value_offset(uint16_t key_size, uint16_t meta_size, uint64_t value_size)
{
    return chunks_offset(key_size, meta_size) + align8(4 * chunk_count(value_size));
}

uint64_t record_size_for(uint16_t key_size, uint16_t meta_size, uint64_t value_size)
{
    return align8(value_offset(key_size, meta_size, value_size) + value_size);
}

uint64_t record_size(const struct record *record)
{
    return record_size_for(record->key_size, record->meta_size, record->value_size);
}

uint64_t record_value_offset(const struct record *record)
{
    return value_offset(record->key_size, record->meta_size, record->value_size);
}

static const uint8_t *at_offset(const struct record *record, uint64_t offset)
{
    return (const uint8_t *)record + offset;
}

struct bytes record_value(const struct record *record)
{
    return bytes_of(at_offset(record, record_value_offset(record)), record->value_size);
}

static struct bytes encoded_meta(const struct record *record)
{
    return bytes_of(record->payload + record->key_size, record->meta_size);
}

/* Metadata. */

static uint16_t entry_size(struct bytes value)
{
    return value.size == 0 ? 0 : (uint16_t)(ENTRY_BYTES + value.size);
}

uint16_t record_meta_size(const struct record_meta *meta)
{
    unsigned size = meta->modified_ms == 0 ? 0 : ENTRY_BYTES + MODIFIED_BYTES;
    size += entry_size(meta->content_type);
    size += entry_size(meta->content_encoding);
    size += entry_size(meta->cache_control);
    return (uint16_t)size;
}

static uint8_t *put_entry(uint8_t *to, enum record_tag tag, struct bytes value)
{
    if (value.size == 0) {
        return to;
    }
    assert(value.size <= TEXT_MAX_BYTES);
    to[0] = (uint8_t)tag;
    to[1] = 0;
    store_u16(to + 2, (uint16_t)value.size);
    memcpy(to + ENTRY_BYTES, value.data, value.size);
    return to + ENTRY_BYTES + value.size;
}

static void put_meta(uint8_t *to, const struct record_meta *meta)
{
    if (meta->modified_ms != 0) {
        to = put_entry(to, RECORD_TAG_MODIFIED_MS, bytes_of(&meta->modified_ms, MODIFIED_BYTES));
    }
    to = put_entry(to, RECORD_TAG_CONTENT_TYPE, meta->content_type);
    to = put_entry(to, RECORD_TAG_CONTENT_ENCODING, meta->content_encoding);
    put_entry(to, RECORD_TAG_CACHE_CONTROL, meta->cache_control);
}

/* Takes the first entry off `rest`. False if `rest` doesn't begin with a whole one. */
static bool take_entry(struct bytes *rest, uint8_t *ret_tag, struct bytes *ret_value)
{
    const uint8_t *at = rest->data;
    if (rest->size < ENTRY_BYTES || at[1] != 0) {
        return false;
    }
    uint16_t size = load_u16(at + 2);
    if (size > rest->size - ENTRY_BYTES) {
        return false;
    }
    *ret_tag = at[0];
    *ret_value = bytes_of(at + ENTRY_BYTES, size);
    *rest = bytes_of(at + ENTRY_BYTES + size, rest->size - ENTRY_BYTES - size);
    return true;
}

static bool entry_is_valid(uint8_t tag, struct bytes value)
{
    switch (tag) {
    case RECORD_TAG_MODIFIED_MS:
        return value.size == MODIFIED_BYTES;
    case RECORD_TAG_CONTENT_TYPE:
    case RECORD_TAG_CONTENT_ENCODING:
    case RECORD_TAG_CACHE_CONTROL:
        return value.size <= TEXT_MAX_BYTES;
    default:
        return true; /* of a later version, passed over */
    }
}

static bool meta_is_valid(struct bytes meta)
{
    uint8_t before = 0;
    while (meta.size > 0) {
        uint8_t tag;
        struct bytes value;
        if (!take_entry(&meta, &tag, &value) || tag <= before || !entry_is_valid(tag, value)) {
            return false;
        }
        before = tag;
    }
    return true;
}

void record_set_modified(struct record *record, uint64_t modified_ms)
{
    uint8_t *meta = record->payload + record->key_size; /* where the time comes first */
    assert(record->meta_size >= ENTRY_BYTES + MODIFIED_BYTES && meta[0] == RECORD_TAG_MODIFIED_MS);
    store_u64(meta + ENTRY_BYTES, modified_ms);
}

void record_meta_get(const struct record *record, struct record_meta *ret_meta)
{
    struct bytes rest = encoded_meta(record);
    uint8_t tag;
    struct bytes value;

    *ret_meta = (struct record_meta){.modified_ms = 0};
    while (take_entry(&rest, &tag, &value)) {
        switch (tag) {
        case RECORD_TAG_MODIFIED_MS:
            ret_meta->modified_ms = load_u64(value.data);
            break;
        case RECORD_TAG_CONTENT_TYPE:
            ret_meta->content_type = value;
            break;
        case RECORD_TAG_CONTENT_ENCODING:
            ret_meta->content_encoding = value;
            break;
        case RECORD_TAG_CACHE_CONTROL:
            ret_meta->cache_control = value;
            break;
        default:
            break;
        }
    }
}

/* Making. */

void *record_init(void *into, enum record_kind kind, struct bytes key,
                  const struct record_meta *meta, uint64_t value_size)
{
    struct record *record = into;
    uint16_t meta_size = meta ? record_meta_size(meta) : 0;

    assert((uintptr_t)into % 8 == 0);
    assert(key.size >= 1 && key.size <= RECORD_KEY_MAX_BYTES);
    assert(value_size <= RECORD_VALUE_MAX_BYTES && (kind == RECORD_PUT || value_size == 0));
    *record = (struct record){
        .kind = (uint8_t)kind,
        .key_size = (uint16_t)key.size,
        .meta_size = meta_size,
        .value_size = value_size,
    };
    memcpy(record->payload, key.data, key.size);
    if (meta) {
        put_meta(record->payload + key.size, meta);
    }

    /* The places of padding and of chunk checksums; the latter are filled in later. */
    uint8_t *begin = into;
    uint64_t used = HEADER_BYTES + key.size + meta_size;
    uint64_t value_at = record_value_offset(record);
    uint64_t value_end = value_at + value_size;
    memset(begin + used, 0, value_at - used);
    memset(begin + value_end, 0, align8(value_end) - value_end);
    return begin + value_at;
}

/* Bytes of the payload: of a long value, chunk checksums stand for the value. */
static uint64_t payload_size(const struct record *record)
{
    uint64_t end =
        chunk_count(record->value_size) > 0 ? record_value_offset(record) : record_size(record);
    return end - HEADER_BYTES;
}

uint64_t record_chunks(const struct record *record)
{
    return chunk_count(record->value_size);
}

uint64_t record_chunk_bytes(const struct record *record, uint64_t i)
{
    uint64_t left = align8(record->value_size) - i * RECORD_CHUNK_BYTES;
    return left < RECORD_CHUNK_BYTES ? left : RECORD_CHUNK_BYTES;
}

static const uint8_t *chunk_at(const struct record *record, uint64_t i)
{
    return at_offset(record, record_value_offset(record) + i * RECORD_CHUNK_BYTES);
}

uint32_t record_payload_checksum(struct record *record)
{
    uint64_t chunks = chunk_count(record->value_size);
    uint8_t *sums = (uint8_t *)record + chunks_offset(record->key_size, record->meta_size);
    for (uint64_t i = 0; i < chunks; i++) {
        store_u32(sums + 4 * i, crc32c(0, chunk_at(record, i), record_chunk_bytes(record, i)));
    }
    return crc32c(0, record->payload, payload_size(record));
}

static uint32_t with_header(uint32_t payload_checksum, const struct record *record)
{
    return crc32c(payload_checksum, at_offset(record, sizeof record->checksum),
                  HEADER_BYTES - sizeof record->checksum);
}

void record_seal(struct record *record, uint32_t payload_checksum, uint64_t seq, uint8_t flags)
{
    assert(seq > 0 && (flags & ~KNOWN_FLAGS) == 0);
    record->seq = seq;
    record->flags = flags;
    record->checksum = with_header(payload_checksum, record);
}

/* Checking. */

/* Kind and flags come first: those of a later version may give other fields another meaning. */
static enum err check_header(const struct record *record)
{
    if (record->kind == 0) {
        return ERR_CORRUPT;
    }
    if (record->kind > RECORD_DELETE || (record->flags & ~KNOWN_FLAGS) != 0) {
        return ERR_FORMAT;
    }
    if (record->reserved0 != 0 || record->reserved1 != 0 || record->expiry_ms != 0 ||
        record->seq == 0 || record->seq > RECORD_SEQ_MAX) {
        return ERR_CORRUPT;
    }
    if (record->key_size == 0 || record->key_size > RECORD_KEY_MAX_BYTES) {
        return ERR_CORRUPT;
    }
    uint64_t value_max = record->kind == RECORD_DELETE ? 0 : RECORD_VALUE_MAX_BYTES;
    return record->value_size > value_max ? ERR_CORRUPT : ERR_OK;
}

enum err record_check_shape(const void *at, uint64_t available, uint64_t *ret_size)
{
    const struct record *record = at;
    if (available < HEADER_BYTES) {
        return ERR_CORRUPT;
    }
    enum err err = check_header(record);
    if (err) {
        return err;
    }
    uint64_t size = record_size(record);
    if (size > available) {
        return ERR_CORRUPT;
    }
    *ret_size = size;
    return ERR_OK;
}

static bool is_zero(const uint8_t *from, const uint8_t *to)
{
    while (from < to && *from == 0) {
        from++;
    }
    return from == to;
}

/* The bytes that FORMAT.md calls zero, beyond the header and not behind a long value. */
static bool padding_is_zero(const struct record *record)
{
    uint64_t meta_end = HEADER_BYTES + record->key_size + record->meta_size;
    uint64_t chunks_at = chunks_offset(record->key_size, record->meta_size);
    uint64_t chunks_end = chunks_at + 4 * chunk_count(record->value_size);
    uint64_t value_at = record_value_offset(record);
    uint64_t value_end = value_at + record->value_size;

    return is_zero(at_offset(record, meta_end), at_offset(record, chunks_at)) &&
           is_zero(at_offset(record, chunks_end), at_offset(record, value_at)) &&
           (chunk_count(record->value_size) > 0 ||
            is_zero(at_offset(record, value_end), at_offset(record, align8(value_end))));
}

enum err record_verify_head(const struct record *record)
{
    enum err err = check_header(record);
    if (err) {
        return err;
    }
    uint32_t payload = crc32c(0, record->payload, payload_size(record));
    if (with_header(payload, record) != record->checksum || !meta_is_valid(encoded_meta(record)) ||
        !padding_is_zero(record)) {
        return ERR_CORRUPT;
    }
    return ERR_OK;
}

enum err record_verify_chunk(const struct record *record, uint64_t i, const void *chunk)
{
    const uint8_t *bytes = chunk;
    const uint8_t *sums = at_offset(record, chunks_offset(record->key_size, record->meta_size));
    uint64_t size = record_chunk_bytes(record, i);
    uint64_t used = record->value_size - i * RECORD_CHUNK_BYTES;

    if (crc32c(0, chunk, size) != load_u32(sums + 4 * i)) {
        return ERR_CORRUPT;
    }
    return used >= size || is_zero(bytes + used, bytes + size) ? ERR_OK : ERR_CORRUPT;
}

enum err record_verify_value(const struct record *record, uint64_t offset, uint64_t size)
{
    assert(offset <= record->value_size && size <= record->value_size - offset);
    if (chunk_count(record->value_size) == 0 || size == 0) {
        return ERR_OK; /* the record's own checksum covers it */
    }
    uint64_t last = (offset + size - 1) / RECORD_CHUNK_BYTES;
    for (uint64_t i = offset / RECORD_CHUNK_BYTES; i <= last; i++) {
        enum err err = record_verify_chunk(record, i, chunk_at(record, i));
        if (err) {
            return err;
        }
    }
    return ERR_OK;
}

enum err record_verify(const struct record *record)
{
    enum err err = record_verify_head(record);
    return err ? err : record_verify_value(record, 0, record->value_size);
}
