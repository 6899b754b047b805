/* sections.c - runs of tagged sections. See FORMAT.md for the bytes. */
#include "store/lsm/sections.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/crc32c.h"

enum { TAG_AT = 0, CHECKSUM_AT = 4, SIZE_AT = 8 };

/* Of the section that begins at `section` and takes `whole` bytes: everything but the checksum. */
static uint32_t section_checksum(const uint8_t *section, size_t whole, uint64_t file_id)
{
    uint32_t crc = crc32c(0, &file_id, sizeof file_id);
    crc = crc32c(crc, section + TAG_AT, CHECKSUM_AT - TAG_AT);
    return crc32c(crc, section + SIZE_AT, whole - SIZE_AT);
}

/* --- Writing ---------------------------------------------------------------------------------- */

void sections_init(struct sections *sections, uint64_t file_id)
{
    *sections = (struct sections){.file_id = file_id};
}

void sections_free(struct sections *sections)
{
    free(sections->data);
    *sections = (struct sections){.failed = true};
}

/* Room for `size` more bytes, or NULL. */
static uint8_t *grow(struct sections *sections, size_t size)
{
    if (sections->failed) {
        return NULL;
    }
    if (size > sections->capacity - sections->size) {
        size_t capacity = (sections->size + size) * 2;
        uint8_t *data = realloc(sections->data, capacity);
        if (!data) {
            sections->failed = true;
            return NULL;
        }
        sections->data = data;
        sections->capacity = capacity;
    }
    uint8_t *at = sections->data + sections->size;
    sections->size += size;
    return at;
}

void section_put(struct sections *sections, const void *data, size_t size)
{
    uint8_t *at = grow(sections, size);
    if (at && size > 0) {
        memcpy(at, data, size);
    }
}

void section_put_u64(struct sections *sections, uint64_t number)
{
    section_put(sections, &number, sizeof number);
}

void section_pad(struct sections *sections)
{
    static const uint8_t zeros[8];
    section_put(sections, zeros, align8(sections->size) - sections->size);
}

void section_begin(struct sections *sections, uint32_t tag)
{
    assert(tag != 0);
    sections->open = sections->size;
    uint8_t *header = grow(sections, SECTION_HEADER_BYTES);
    if (header) {
        memset(header, 0, SECTION_HEADER_BYTES);
        store_u32(header + TAG_AT, tag);
    }
}

void section_end(struct sections *sections)
{
    uint64_t contents = sections->size - sections->open - SECTION_HEADER_BYTES;

    section_pad(sections);
    if (!sections->failed) {
        uint8_t *section = sections->data + sections->open;
        store_u64(section + SIZE_AT, contents);
        store_u32(section + CHECKSUM_AT,
                  section_checksum(section, sections->size - sections->open, sections->file_id));
    }
}

enum err sections_finish(const struct sections *sections)
{
    return sections->failed ? ERR_NO_MEMORY : ERR_OK;
}

/* --- Reading ---------------------------------------------------------------------------------- */

void section_reader_init(struct section_reader *reader, struct bytes run, uint64_t file_id)
{
    assert((uintptr_t)run.data % 8 == 0);
    *reader = (struct section_reader){.data = run.data, .size = run.size, .file_id = file_id};
}

/* Bytes of the section that begins here; 0 if there can't be one. */
static size_t whole_size(const struct section_reader *reader)
{
    size_t left = reader->size - reader->at;

    if (left < SECTION_HEADER_BYTES) {
        return 0;
    }
    uint64_t contents = load_u64(reader->data + reader->at + SIZE_AT);
    /* The first comparison keeps the second from overflowing. */
    if (contents > left || SECTION_HEADER_BYTES + align8(contents) > left) {
        return 0;
    }
    return SECTION_HEADER_BYTES + align8(contents);
}

bool section_skip(struct section_reader *reader)
{
    size_t whole = whole_size(reader);
    reader->at += whole;
    return whole > 0;
}

enum err section_next(struct section_reader *reader, struct section *ret_section)
{
    const uint8_t *section = reader->data + reader->at;
    size_t left = reader->size - reader->at;

    if (left == 0) {
        *ret_section = (struct section){.tag = 0};
        return ERR_OK;
    }
    size_t whole = whole_size(reader);
    if (whole == 0) {
        return ERR_CORRUPT;
    }
    uint64_t contents = load_u64(section + SIZE_AT);
    uint32_t tag = load_u32(section + TAG_AT);
    if (load_u32(section + CHECKSUM_AT) != section_checksum(section, whole, reader->file_id) ||
        tag <= reader->last_tag ||
        !bytes_are_zero(section + SECTION_HEADER_BYTES + contents, align8(contents) - contents)) {
        return ERR_CORRUPT;
    }
    *ret_section = (struct section){
        .tag = tag,
        .offset = reader->at + SECTION_HEADER_BYTES,
        .contents = bytes_of(section + SECTION_HEADER_BYTES, contents),
    };
    reader->last_tag = tag;
    reader->at += whole;
    return ERR_OK;
}
