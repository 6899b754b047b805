/*
 * wal_reader.c - verifying and finding frames.
 *
 * A segment is read through one window of the file that only moves forward: at least WINDOW_BYTES,
 * so that small frames cost no system call each and the search for frames runs at the speed of
 * memory, and as large as the largest frame.
 */
#include "store/lsm/wal_reader.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/bytes.h"
#include "store/base/crc32c.h"

#define WINDOW_BYTES     (UINT64_C(1) << 20)
#define RECORD_MIN_BYTES 48u /* header, a key of 1 byte, padding */
#define CHECKSUM_BYTES   offsetof(struct frame_header, checksum)

uint32_t wal_frame_checksum(const struct frame_header *header, const struct record *const records[],
                            size_t n)
{
    uint32_t sums[256];
    size_t held = 0;
    uint32_t crc = crc32c(0, header, CHECKSUM_BYTES);

    for (size_t i = 0; i < n; i++) {
        sums[held++] = records[i]->checksum;
        if (held == sizeof sums / sizeof sums[0]) {
            crc = crc32c(crc, sums, sizeof sums);
            held = 0;
        }
    }
    return held == 0 ? crc : crc32c(crc, sums, held * sizeof sums[0]);
}

/* --- Window ----------------------------------------------------------------------------------- */

static enum err window_grow(struct wal_reader *reader, size_t capacity)
{
    free(reader->window);
    reader->window_filled = 0;
    reader->window_capacity = 0;
    reader->window = malloc(capacity);
    if (!reader->window) {
        err_detail_set(reader->detail, "%s: no memory for a frame of %zu bytes", reader->name,
                       capacity);
        return ERR_NO_MEMORY;
    }
    reader->window_capacity = capacity;
    return ERR_OK;
}

static enum err window_fill(struct wal_reader *reader, uint64_t offset, size_t at_least)
{
    uint64_t left = reader->size_bytes - offset;
    size_t wanted = left < WINDOW_BYTES ? (size_t)left : (size_t)WINDOW_BYTES;
    size_t got;

    wanted = wanted < at_least ? at_least : wanted;
    if (wanted > reader->window_capacity) {
        enum err err = window_grow(reader, wanted);
        if (err) {
            return err;
        }
    }
    reader->window_filled = 0;
    enum err err = vfs_read(reader->file, offset, reader->window, wanted, &got);
    if (err == ERR_IO && wanted > at_least && reader->damaged) {
        wanted = at_least;
        err = vfs_read(reader->file, offset, reader->window, wanted, &got);
    }
    if (!err && got < wanted) {
        err = ERR_IO; /* somebody cuts the file: what it held is not for us to decide */
    }
    if (err) {
        err_detail_set(reader->detail, "%s, offset %" PRIu64 ": can't be read: %s", reader->name,
                       offset, err_text(err));
        return err;
    }
    reader->window_begin = offset;
    reader->window_filled = wanted;
    return ERR_OK;
}

/* Makes *ret_bytes point at `size` bytes from `offset` on, which the file is known to hold. They
 * are as aligned as `offset` is, up to 8. */
static enum err window_view(struct wal_reader *reader, uint64_t offset, size_t size,
                            const uint8_t **ret_bytes)
{
    assert(offset <= reader->size_bytes && size <= reader->size_bytes - offset);
    if (offset < reader->window_begin ||
        offset - reader->window_begin + size > reader->window_filled) {
        enum err err = window_fill(reader, offset / 8 * 8, size + offset % 8);
        if (err) {
            return err;
        }
    }
    *ret_bytes = reader->window + (offset - reader->window_begin);
    return ERR_OK;
}

/* Makes *ret_bytes point at whatever is at hand from `offset` on, which lies before the end of the
 * file: at least 8 bytes, or all that the file still has. Reads only if there are fewer: a search
 * that stops and goes on doesn't read the same bytes again. */
static enum err window_rest(struct wal_reader *reader, uint64_t offset, const uint8_t **ret_bytes,
                            size_t *ret_size)
{
    uint64_t left = reader->size_bytes - offset;
    enum err err = window_view(
        reader, offset, left < sizeof(uint64_t) ? (size_t)left : sizeof(uint64_t), ret_bytes);
    if (!err) {
        *ret_size = (size_t)(reader->window_begin + reader->window_filled - offset);
    }
    return err;
}

/* --- Header ----------------------------------------------------------------------------------- */

static enum err is_damage_alone(struct wal_reader *reader, const struct file_header *header,
                                enum wal_header_state *ret_state)
{
    static const struct file_header zeros;
    uint64_t nonzero;

    *ret_state = WAL_HEADER_DAMAGED;
    if (file_header_is_intact(header) || memcmp(header, &zeros, sizeof zeros) == 0 ||
        reader->size_bytes <= WAL_FIRST_FRAME_OFFSET) {
        /* Another file under this name, or a block that was lost as a whole: then others may be,
         * and zeros say nothing. */
        return ERR_OK;
    }
    enum err err = wal_reader_skip_zeros(reader, WAL_FIRST_FRAME_OFFSET, &nonzero);
    if (!err && nonzero == reader->size_bytes) {
        *ret_state = WAL_HEADER_DAMAGED_ALONE;
    }
    return err;
}

/* The id that the first frame claims, if there is something there. */
static enum err guess_segment_id(struct wal_reader *reader)
{
    const uint8_t *bytes;

    if (reader->size_bytes < WAL_FIRST_FRAME_OFFSET + sizeof(uint64_t)) {
        return ERR_OK;
    }
    enum err err = window_view(reader, WAL_FIRST_FRAME_OFFSET, sizeof(uint64_t), &bytes);
    if (!err && load_u64(bytes) != 0) {
        reader->segment_id = load_u64(bytes);
    }
    return err;
}

static enum err read_header(struct wal_reader *reader, uint64_t store_id, uint64_t number,
                            enum wal_header_state *ret_state)
{
    struct file_header header;
    const uint8_t *bytes;

    *ret_state = WAL_HEADER_INTACT;
    if (reader->size_bytes < sizeof header) {
        err_detail_set(reader->detail, "%s: is only %" PRIu64 " bytes long", reader->name,
                       reader->size_bytes);
        *ret_state = WAL_HEADER_DAMAGED;
        return ERR_OK;
    }
    enum err err = window_view(reader, 0, sizeof header, &bytes);
    if (err) {
        return err;
    }
    memcpy(&header, bytes, sizeof header);
    reader->number = header.number;
    reader->segment_id = header.file_id;
    err = file_header_check(&header, FILE_SEGMENT, store_id, number, reader->name, reader->detail);
    if (!err && reader->size_bytes < WAL_FIRST_FRAME_OFFSET) {
        err_detail_set(reader->detail, "%s: is only %" PRIu64 " bytes long", reader->name,
                       reader->size_bytes);
        err = ERR_CORRUPT;
    }
    if (err == ERR_FORMAT && reader->damaged && !file_header_is_intact(&header)) {
        err = ERR_CORRUPT;
    }
    if (err != ERR_CORRUPT) {
        return err;
    }
    reader->number = number != UINT64_MAX ? number : header.number;
    err = is_damage_alone(reader, &header, ret_state);
    return err ? err : guess_segment_id(reader);
}

static enum err open_reader(struct wal_reader *reader, struct vfs_dir *dir, const char *name,
                            uint64_t store_id, uint64_t number, bool damaged,
                            enum wal_header_state *ret_state, struct err_detail *detail)
{
    *reader = (struct wal_reader){.number = number, .damaged = damaged, .detail = detail};
    strncpy(reader->name, name, sizeof reader->name - 1);

    reader->records = malloc(WAL_FRAME_RECORDS_MAX * sizeof(struct record *));
    enum err err = reader->records ? ERR_OK : ERR_NO_MEMORY;
    if (!err) {
        err = vfs_open(dir, name, VFS_READ, &reader->file);
    }
    if (!err) {
        vfs_advise(reader->file, 0, 0, VFS_ADVICE_SEQUENTIAL);
        err = vfs_size(reader->file, &reader->size_bytes);
    }
    if (err) {
        err_detail_set(detail, "%s: can't be opened: %s", name, err_text(err));
    } else {
        err = read_header(reader, store_id, number, ret_state);
    }
    if (err) {
        wal_reader_close(reader);
    }
    return err;
}

enum err wal_reader_open(struct wal_reader *reader, struct vfs_dir *dir, const char *name,
                         uint64_t store_id, uint64_t number, enum wal_header_state *ret_state,
                         struct err_detail *detail)
{
    return open_reader(reader, dir, name, store_id, number, false, ret_state, detail);
}

enum err wal_reader_open_damaged(struct wal_reader *reader, struct vfs_dir *dir, const char *name,
                                 uint64_t store_id, uint64_t number,
                                 enum wal_header_state *ret_state, struct err_detail *detail)
{
    return open_reader(reader, dir, name, store_id, number, true, ret_state, detail);
}

void wal_reader_close(struct wal_reader *reader)
{
    vfs_close(reader->file);
    free(reader->window);
    free(reader->records);
    *reader = (struct wal_reader){.file = NULL};
}

/* --- Frames ----------------------------------------------------------------------------------- */

/* `left`: bytes from the frame's begin to the end of the file. */
static const char *check_frame_header(const struct frame_header *header, uint64_t segment_id,
                                      uint64_t left)
{
    if (header->segment_id != segment_id || segment_id == 0) {
        return "no frame of this segment begins here";
    }
    if (header->records_bytes % 8 != 0 || header->count > WAL_FRAME_RECORDS_MAX ||
        header->records_bytes < (uint64_t)header->count * RECORD_MIN_BYTES ||
        (header->count == 0 && header->records_bytes != 0) || header->reserved != 0 ||
        header->reserved1 != 0) {
        return "a frame header with impossible sizes";
    }
    if (header->first_seq == 0 || header->first_seq > RECORD_SEQ_MAX + 1 - header->count ||
        header->durable_upto >= header->first_seq) {
        return "a frame header with impossible numbers";
    }
    if (header->records_bytes > left - WAL_FRAME_HEADER_BYTES) {
        return "a frame that goes beyond the end of the file";
    }
    return NULL;
}

/* record_verify() doesn't look at a record whose kind or flags it doesn't know. Intact, it is a
 * later version's and must not be dropped as damage; the checksum lies where it does today. */
static bool is_of_later_version(const struct record *record, uint64_t left)
{
    if (record->key_size > RECORD_KEY_MAX_BYTES || record->value_size > RECORD_VALUE_MAX_BYTES ||
        record_size(record) > left) {
        return false;
    }
    uint64_t end =
        record->value_size > RECORD_CHUNK_BYTES ? record_value_offset(record) : record_size(record);
    uint32_t crc = crc32c(0, record->payload, end - sizeof *record);
    crc = crc32c(crc, (const uint8_t *)record + sizeof record->checksum,
                 sizeof *record - sizeof record->checksum);
    return crc == record->checksum;
}

/* Record `i` of the frame, of which `left` bytes remain. */
static enum err check_record(struct wal_reader *reader, const struct frame_header *header,
                             uint32_t i, const void *at, uint64_t left, uint64_t *ret_size,
                             const char **ret_why)
{
    const struct record *record = at;
    enum err err = record_check_shape(at, left, ret_size);

    if (err == ERR_FORMAT && is_of_later_version(record, left)) {
        err_detail_set(reader->detail,
                       "%s: number %" PRIu64 " is a record of kind %u with flags 0x%x, which this "
                       "varve doesn't know: use the version of varve that wrote it",
                       reader->name, header->first_seq + i, record->kind, record->flags);
        return ERR_FORMAT;
    }
    if (err) {
        *ret_why = "a frame with an impossible record";
    } else if (record->seq != header->first_seq + i) {
        *ret_why = "a frame whose records have other numbers than its header says";
    }
    return ERR_OK;
}

/* Fills reader->records with the records at `at`, whose shapes are good. */
static enum err find_records(struct wal_reader *reader, const struct frame_header *header,
                             const uint8_t *at, const char **ret_why)
{
    uint64_t left = header->records_bytes;

    for (uint32_t i = 0; i < header->count; i++) {
        uint64_t size = 0;
        enum err err = check_record(reader, header, i, at, left, &size, ret_why);
        if (err || *ret_why) {
            return err;
        }
        reader->records[i] = (const void *)at;
        at += size;
        left -= size;
    }
    if (left != 0) {
        *ret_why = "a frame whose records don't fill it";
    }
    return ERR_OK;
}

/* Views the records of a frame. The first one's number is looked at alone before all are read, so
 * that a search that meets many claims of large frames stays quick. */
static enum err view_records(struct wal_reader *reader, uint64_t offset,
                             const struct frame_header *header, const uint8_t **ret_records,
                             const char **ret_why)
{
    uint64_t begin = offset + WAL_FRAME_HEADER_BYTES;
    const uint8_t *bytes;
    enum err err = window_view(reader, begin, sizeof(struct record), &bytes);

    if (!err && ((const struct record *)(const void *)bytes)->seq != header->first_seq) {
        *ret_why = "a frame whose first record has another number than its header says";
        return ERR_OK;
    }
    return err ? err : window_view(reader, begin, header->records_bytes, ret_records);
}

static enum err check_records(struct wal_reader *reader, uint64_t offset,
                              const struct frame_header *header, const char **ret_why)
{
    const uint8_t *at;
    enum err err = view_records(reader, offset, header, &at, ret_why);

    if (!err && !*ret_why) {
        err = find_records(reader, header, at, ret_why);
    }
    if (err || *ret_why) {
        return err;
    }
    if (wal_frame_checksum(header, reader->records, header->count) != header->checksum) {
        *ret_why = "a frame whose checksum doesn't agree";
        return ERR_OK;
    }
    for (uint32_t i = 0; i < header->count; i++) {
        if (record_verify(reader->records[i]) != ERR_OK) {
            *ret_why = "a frame with a damaged record";
            return ERR_OK;
        }
    }
    return ERR_OK;
}

enum err wal_reader_frame(struct wal_reader *reader, uint64_t offset, struct wal_frame *ret_frame,
                          const char **ret_why)
{
    struct frame_header header;
    const uint8_t *bytes;

    assert(offset % 8 == 0 && offset <= reader->size_bytes);
    *ret_why = NULL;
    uint64_t left = reader->size_bytes - offset;
    if (left < sizeof header) {
        *ret_why = "too few bytes for a frame";
        return ERR_OK;
    }
    enum err err = window_view(reader, offset, sizeof header, &bytes);
    if (err) {
        return err;
    }
    memcpy(&header, bytes, sizeof header);
    *ret_why = check_frame_header(&header, reader->segment_id, left);
    if (!*ret_why && header.count > 0) {
        err = check_records(reader, offset, &header, ret_why);
    } else if (!*ret_why && wal_frame_checksum(&header, NULL, 0) != header.checksum) {
        *ret_why = "an empty frame whose checksum doesn't agree";
    }
    if (!err && !*ret_why) {
        *ret_frame = (struct wal_frame){
            .header = header,
            .records = header.count == 0 ? NULL : reader->records,
            .offset = offset,
            .end = offset + WAL_FRAME_HEADER_BYTES + header.records_bytes,
        };
    }
    return err;
}

enum err wal_reader_record(struct wal_reader *reader, uint64_t offset, uint64_t limit, uint64_t seq,
                           const struct record **ret_record, uint64_t *ret_size, bool *ret_intact)
{
    const uint8_t *bytes;
    uint64_t size;

    *ret_record = NULL;
    *ret_size = 0;
    if (offset > limit || limit - offset < RECORD_MIN_BYTES) {
        return ERR_OK;
    }
    enum err err = window_view(reader, offset, sizeof(struct record), &bytes);
    if (err || record_check_shape(bytes, limit - offset, &size) ||
        (seq != 0 && ((const struct record *)(const void *)bytes)->seq != seq)) {
        return err;
    }
    err = window_view(reader, offset, size, &bytes);
    if (!err) {
        *ret_record = (const void *)bytes;
        *ret_size = size;
        *ret_intact = record_verify(*ret_record) == ERR_OK;
    }
    return err;
}

enum err wal_reader_step(struct wal_reader *reader, uint64_t offset, uint64_t limit, uint64_t seq,
                         uint64_t *ret_size)
{
    const uint8_t *bytes;
    const struct record *next;
    uint64_t next_size;
    bool intact;

    *ret_size = 0;
    if (offset > limit || limit - offset < RECORD_MIN_BYTES) {
        return ERR_OK;
    }
    enum err err = window_view(reader, offset, sizeof(struct record), &bytes);
    const struct record *record = err ? NULL : (const void *)bytes;
    if (err || record->key_size > RECORD_KEY_MAX_BYTES ||
        record->value_size > RECORD_VALUE_MAX_BYTES || record_size(record) > limit - offset) {
        return err;
    }
    uint64_t size = record_size(record);
    err = wal_reader_record(reader, offset + size, limit, seq, &next, &next_size, &intact);
    *ret_size = !err && next && intact ? size : 0;
    return err;
}

/* --- Searching -------------------------------------------------------------------------------- */

/* The first place at or after *offset where the segment's id stands; the file's size if none. */
static enum err find_segment_id(struct wal_reader *reader, uint64_t *offset)
{
    while (reader->size_bytes - *offset >= WAL_FRAME_HEADER_BYTES) {
        const uint8_t *bytes;
        size_t size;
        enum err err = window_rest(reader, *offset, &bytes, &size);
        if (err) {
            return err;
        }
        size_t words = size / sizeof(uint64_t);
        for (size_t i = 0; i < words; i++) {
            if (load_u64(bytes + i * sizeof(uint64_t)) == reader->segment_id) {
                *offset += i * sizeof(uint64_t);
                return ERR_OK;
            }
        }
        *offset += words * sizeof(uint64_t);
    }
    *offset = reader->size_bytes;
    return ERR_OK;
}

enum err wal_reader_find(struct wal_reader *reader, uint64_t offset, struct wal_frame *ret_frame,
                         bool *ret_found)
{
    assert(offset % 8 == 0);
    *ret_found = false;
    if (reader->segment_id == 0 || offset >= reader->size_bytes) {
        return ERR_OK;
    }
    for (;;) {
        const char *why;
        enum err err = find_segment_id(reader, &offset);
        if (err || offset == reader->size_bytes) {
            return err;
        }
        err = wal_reader_frame(reader, offset, ret_frame, &why);
        if (err || !why) {
            *ret_found = !err;
            return err;
        }
        offset += 8;
    }
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

enum err wal_reader_skip_zeros(struct wal_reader *reader, uint64_t offset, uint64_t *ret_offset)
{
    while (offset < reader->size_bytes) {
        const uint8_t *bytes;
        size_t size;
        enum err err = window_rest(reader, offset, &bytes, &size);
        if (err) {
            return err;
        }
        if (!is_zero(bytes, size)) {
            while (*bytes == 0) {
                bytes++;
                offset++;
            }
            break;
        }
        offset += size;
    }
    *ret_offset = offset;
    return ERR_OK;
}
