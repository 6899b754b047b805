/* forge.c - files made of hostile bytes: putting in zeros, mending what every file has. */
#include "tests/fuzz/forge.h"

#include <stdlib.h>
#include <string.h>

#include "store/base/crc32c.h"
#include "store/lsm/sections.h"
#include "store/lsm/wal.h"
#include "tests/support/alloc.h"

enum { UNIT = 8 };

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

bool forged_init(struct forged *forged, const uint8_t *data, size_t size)
{
    struct forge_settings settings;

    if (size < sizeof settings) {
        return false;
    }
    memcpy(&settings, data, sizeof settings);
    data += sizeof settings;
    size -= sizeof settings;
    size_t at = smaller((size_t)settings.zeros_at * UNIT, size);
    size_t zeros = (size_t)settings.zeros * UNIT;
    *forged = (struct forged){
        .settings = settings,
        .size = size + zeros + (size_t)settings.tail_zeros * UNIT,
    };
    forged->data = test_alloc(forged->size);
    memcpy(forged->data, data, at);
    memcpy(forged->data + at + zeros, data + at, size - at);
    return true;
}

void forged_release(struct forged *forged)
{
    free(forged->data);
}

uint8_t *forge_file(const struct forged *forged, const uint8_t *data, size_t size, size_t *ret_size)
{
    size_t header = sizeof(struct file_header);
    size_t gap = size < header ? 0 : (size_t)WAL_FIRST_FRAME_OFFSET - header;
    uint8_t *file = test_alloc(size + gap);

    memcpy(file, data, smaller(size, header));
    if (gap > 0) {
        memcpy(file + header + gap, data + header, size - header);
        if (forged->settings.gap_byte_at > 0) {
            file[header + forged->settings.gap_byte_at % gap] = 1;
        }
    }
    *ret_size = size + gap;
    return file;
}

void forge_checksum(struct forged *forged, void *at, uint32_t checksum)
{
    forged->checksums++;
    if ((forged->settings.leave & FORGE_LEAVE_CHECKSUMS) == 0) {
        store_u32(at, forged->checksums == forged->settings.wrong ? ~checksum : checksum);
    }
}

uint64_t forge_header(struct forged *forged, uint8_t *data, size_t size, uint64_t number)
{
    struct file_header header;

    if (size < sizeof header) {
        return 0;
    }
    memcpy(&header, data, sizeof header);
    if ((forged->settings.leave & FORGE_LEAVE_IDS) == 0) {
        header.store_id = FORGE_STORE_ID;
        header.number = number;
    }
    memcpy(data, &header, sizeof header);
    forge_checksum(forged, data + offsetof(struct file_header, checksum),
                   crc32c(0, data, offsetof(struct file_header, checksum)));
    return header.file_id;
}

uint64_t forge_record(struct forged *forged, uint8_t *at, uint64_t available)
{
    struct record *record = (struct record *)at;

    if (available < sizeof *record || record->key_size > RECORD_KEY_MAX_BYTES ||
        record->value_size > RECORD_VALUE_MAX_BYTES || record_size(record) > available) {
        return 0;
    }
    if ((forged->settings.leave & FORGE_LEAVE_CHECKSUMS) != 0) {
        return record_size(record);
    }
    /* Of a record that claims no more than there is: this also writes the chunks' checksums. */
    uint32_t checksum = record_payload_checksum(record);
    checksum =
        crc32c(checksum, at + sizeof record->checksum, sizeof *record - sizeof record->checksum);
    forge_checksum(forged, &record->checksum, checksum);
    return record_size(record);
}

void forge_sections(struct forged *forged, uint8_t *run, size_t size, uint64_t file_id)
{
    enum { CHECKSUM_AT = 4, SIZE_AT = 8 };

    while (size >= SECTION_HEADER_BYTES) {
        uint64_t contents = load_u64(run + SIZE_AT);
        if (contents > size - SECTION_HEADER_BYTES ||
            align8(contents) > size - SECTION_HEADER_BYTES) {
            return;
        }
        size_t whole = SECTION_HEADER_BYTES + align8(contents);
        uint32_t crc = crc32c(0, &file_id, sizeof file_id);
        crc = crc32c(crc, run, CHECKSUM_AT);
        crc = crc32c(crc, run + SIZE_AT, whole - SIZE_AT);
        forge_checksum(forged, run + CHECKSUM_AT, crc);
        run += whole;
        size -= whole;
    }
}
