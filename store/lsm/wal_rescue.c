/*
 * wal_rescue.c - two passes over the segments. The first one hears what intact frames say: up to
 * which number everything was on disk, and where each segment begins. The second one hands out
 * records and accounts for every number that is missing.
 */
#include "store/lsm/wal_rescue.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/lsm/wal.h"
#include "store/lsm/wal_reader.h"

#define PAGE_BYTES UINT64_C(4096)

/* A bad place, kept until it is known what it hides. */
struct bad {
    char file[FILES_NAME_BYTES];
    uint64_t offset;
    char text[256];
};

#define BADS_MAX 16u /* between two intact frames; further ones aren't told */

struct rescue {
    struct vfs_dir *dir;
    uint64_t store_id;
    const struct wal_rescue_file *files;
    size_t n_files;
    uint64_t covered_seq, from_seq;
    wal_rescue_record_fn *each;
    wal_rescue_place_fn *place;
    void *arg;
    struct err_detail *detail;

    bool telling; /* the second pass */
    uint64_t durable_upto;
    uint64_t *begins; /* of each file the first number; UINT64_MAX: no frame */
    size_t index;     /* of the file at hand */
    struct wal_reader reader;
    uint64_t limit_seq; /* where a later segment begins: numbers from there on are its own */
    uint64_t chain_seq; /* the number that joins on; 0: none was met yet */
    bool over;
    struct bad bads[BADS_MAX]; /* since the last intact frame */
    size_t n_bads;
    uint64_t picked; /* records of these places that were handed out all the same… */
    struct table_key keys[WAL_RESCUE_KEYS_MAX]; /* …and keys of some that weren't */
    size_t n_keys;
    struct wal_rescued result;
};

/* --- Telling ---------------------------------------------------------------------------------- */

static void meet_bad(struct rescue *rescue, const char *file, uint64_t offset, const char *format,
                     ...) PRINTF_LIKE(4, 5);

static void meet_bad(struct rescue *rescue, const char *file, uint64_t offset, const char *format,
                     ...)
{
    va_list args;

    if (!rescue->telling || rescue->over || rescue->n_bads == BADS_MAX) {
        return;
    }
    struct bad *bad = &rescue->bads[rescue->n_bads++];
    *bad = (struct bad){.offset = offset};
    strncpy(bad->file, file, sizeof bad->file - 1);
    va_start(args, format);
    (void)vsnprintf(bad->text, sizeof bad->text, format, args);
    va_end(args);
}

/* Tells of the places since the last intact frame. The first one gets the numbers. */
static void tell(struct rescue *rescue, enum wal_place_kind kind, uint64_t first_seq,
                 uint64_t last_seq)
{
    uint64_t lost = kind == WAL_PLACE_LOST ? last_seq - first_seq + 1 - rescue->picked : 0;

    if (kind == WAL_PLACE_LOST && lost == 0) {
        kind = WAL_PLACE_HARMLESS;
    }
    rescue->result.lost += lost;
    for (size_t i = 0; i < rescue->n_bads; i++) {
        struct bad *bad = &rescue->bads[i];
        struct wal_place place = {
            .kind = kind, .file = bad->file, .offset = bad->offset, .text = bad->text};
        if (i == 0 && lost > 0) {
            place.first_seq = first_seq;
            place.last_seq = last_seq;
            place.lost = lost;
            place.keys = rescue->keys;
            place.n_keys = rescue->n_keys;
        }
        rescue->place(rescue->arg, &place);
    }
    rescue->n_bads = 0;
    rescue->picked = 0;
    rescue->n_keys = 0;
}

/* The first number that the tables don't cover and that wasn't met. */
static uint64_t missing_seq(const struct rescue *rescue)
{
    uint64_t next = rescue->covered_seq + 1;
    return rescue->chain_seq > next ? rescue->chain_seq : next;
}

/* An intact frame, or the log's end, stands at this place and begins with `seq`: what is missing
 * before it? */
static void account(struct rescue *rescue, const char *file, uint64_t offset, uint64_t seq)
{
    uint64_t missing = missing_seq(rescue);
    bool gap = rescue->chain_seq > 0 ? seq > rescue->chain_seq : seq > missing;

    if (gap && rescue->n_bads == 0) {
        meet_bad(rescue, file, offset, "the writes that should stand before this are missing");
    }
    if (seq <= missing) {
        tell(rescue, WAL_PLACE_HARMLESS, 0, 0);
        return;
    }
    if (missing <= rescue->durable_upto) {
        uint64_t last = seq - 1 < rescue->durable_upto ? seq - 1 : rescue->durable_upto;
        tell(rescue, WAL_PLACE_LOST, missing, last);
    } else {
        tell(rescue, WAL_PLACE_TORN, 0, 0);
    }
    rescue->over = seq - 1 > rescue->durable_upto;
}

/* --- Frames and records ----------------------------------------------------------------------- */

static enum err hand_out(struct rescue *rescue, const struct record *record)
{
    if (record->seq < rescue->from_seq) {
        return ERR_OK;
    }
    rescue->result.records++;
    return rescue->each(rescue->arg, record, rescue->reader.name);
}

static void hear_frame(struct rescue *rescue, const struct frame_header *header)
{
    uint64_t *begin = &rescue->begins[rescue->index];
    *begin = header->first_seq < *begin ? header->first_seq : *begin;
    if (header->durable_upto > rescue->durable_upto) {
        rescue->durable_upto = header->durable_upto;
    }
}

static enum err take_frame(struct rescue *rescue, const struct wal_frame *frame)
{
    const struct frame_header *header = &frame->header;
    uint64_t end = header->first_seq + header->count;

    if (!rescue->telling) {
        hear_frame(rescue, header);
        return ERR_OK;
    }
    if (rescue->over || header->first_seq >= rescue->limit_seq) {
        return ERR_OK;
    }
    if (header->first_seq < rescue->chain_seq) {
        meet_bad(rescue, rescue->reader.name, frame->offset,
                 "a frame with numbers that were given before");
        return ERR_OK;
    }
    if (header->first_seq <= rescue->covered_seq && end > rescue->covered_seq + 1) {
        meet_bad(rescue, rescue->reader.name, frame->offset,
                 "a frame of which the tables cover only a part");
    }
    account(rescue, rescue->reader.name, frame->offset, header->first_seq);
    if (rescue->over) {
        return ERR_OK;
    }
    rescue->chain_seq = end;
    for (uint32_t i = 0; i < header->count; i++) {
        enum err err = hand_out(rescue, frame->records[i]);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

static void keep_key(struct rescue *rescue, const struct record *record)
{
    if (rescue->n_keys < WAL_RESCUE_KEYS_MAX) {
        struct table_key *key = &rescue->keys[rescue->n_keys++];
        key->size = record->key_size;
        memcpy(key->data, record->payload, record->key_size);
    }
}

/* The record number `seq` (0: any) at *offset, or behind the header of a frame there. *ret_size 0:
 * there is none; *ret_record NULL: one of bad shape. */
static enum err find_record(struct rescue *rescue, uint64_t *offset, uint64_t limit, uint64_t seq,
                            const struct record **ret_record, uint64_t *ret_size, bool *ret_intact)
{
    struct wal_reader *reader = &rescue->reader;
    uint64_t behind = *offset + WAL_FRAME_HEADER_BYTES;

    *ret_size = 0;
    *ret_intact = false;
    enum err err = wal_reader_record(reader, *offset, limit, seq, ret_record, ret_size, ret_intact);
    if (err == ERR_OK && !*ret_record) {
        err = wal_reader_record(reader, behind, limit, seq, ret_record, ret_size, ret_intact);
        *offset = *ret_record ? behind : *offset;
    }
    if (err == ERR_OK && !*ret_record && seq > 0) {
        err = wal_reader_step(reader, *offset, limit, seq + 1, ret_size);
    }
    return err;
}

/* Takes what can be read of a frame that isn't intact, at `offset` and before `limit`. */
static enum err pick_records(struct rescue *rescue, uint64_t offset, uint64_t limit)
{
    uint64_t seq = rescue->chain_seq;

    offset += WAL_FRAME_HEADER_BYTES;
    for (;;) {
        const struct record *record;
        uint64_t size;
        bool intact;
        enum err err = find_record(rescue, &offset, limit, seq, &record, &size, &intact);
        if (err != ERR_OK || size == 0) {
            return err == ERR_IO ? ERR_OK : err;
        }
        if (record && !intact && seq == 0 && record->seq != missing_seq(rescue)) {
            return ERR_OK;
        }
        seq = record ? record->seq : seq;
        if (seq > rescue->durable_upto || seq >= rescue->limit_seq) {
            return ERR_OK;
        }
        bool missing = seq >= missing_seq(rescue);
        if (intact) {
            rescue->picked += missing;
            err = hand_out(rescue, record);
        } else if (missing && record) {
            keep_key(rescue, record);
        }
        if (err != ERR_OK) {
            return err;
        }
        seq++;
        offset += size;
    }
}

/* --- Segments --------------------------------------------------------------------------------- */

/* The next intact frame from `offset` on. Pages that can't be read are passed over. */
static enum err find_frame(struct rescue *rescue, uint64_t offset, struct wal_frame *ret_frame,
                           bool *ret_found)
{
    enum err err = wal_reader_find(&rescue->reader, offset, ret_frame, ret_found);
    while (err == ERR_IO && rescue->reader.size_bytes - offset > PAGE_BYTES) {
        offset = (offset / PAGE_BYTES + 1) * PAGE_BYTES;
        err = wal_reader_find(&rescue->reader, offset, ret_frame, ret_found);
    }
    *ret_found = *ret_found && err == ERR_OK;
    return err == ERR_IO ? ERR_OK : err;
}

/* No intact frame begins at *offset: goes to the next one, or to the end of the file. */
static enum err pass_bad(struct rescue *rescue, uint64_t *offset, const char *why)
{
    struct wal_reader *reader = &rescue->reader;
    struct wal_frame frame;
    bool found = false;
    uint64_t begin = *offset;
    uint64_t nonzero = begin;

    enum err err = wal_reader_skip_zeros(reader, begin, &nonzero);
    if (err == ERR_OK && nonzero == reader->size_bytes) {
        *offset = reader->size_bytes;
        return ERR_OK;
    }
    if (err == ERR_OK && nonzero - begin >= WAL_FRAME_HEADER_BYTES) {
        why = "zeros where a frame should begin, but not to the end";
    }
    err = err == ERR_IO ? ERR_OK : err;
    if (err == ERR_OK) {
        err = find_frame(rescue, begin, &frame, &found);
    }
    if (err != ERR_OK) {
        return err;
    }
    *offset = found ? frame.offset : reader->size_bytes;
    if (!rescue->telling || rescue->over) {
        return ERR_OK;
    }
    if (found) {
        meet_bad(rescue, reader->name, begin, "%s; the next intact frame is at offset %" PRIu64,
                 why, frame.offset);
    } else {
        meet_bad(rescue, reader->name, begin, "%s; no intact frame follows", why);
    }
    return pick_records(rescue, begin, *offset);
}

static enum err read_frames(struct rescue *rescue)
{
    struct wal_reader *reader = &rescue->reader;
    uint64_t offset = WAL_FIRST_FRAME_OFFSET;

    while (offset < reader->size_bytes) {
        struct wal_frame frame;
        const char *why = NULL;
        enum err err = wal_reader_frame(reader, offset, &frame, &why);
        if (err == ERR_IO) {
            err = ERR_OK;
            why = "the disk can't read it";
        }
        if (err == ERR_OK && why) {
            err = pass_bad(rescue, &offset, why);
        } else if (err == ERR_OK) {
            offset = frame.end;
            err = take_frame(rescue, &frame);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

/* The zeros between the file header and the first frame. */
static enum err check_gap(struct rescue *rescue)
{
    struct wal_reader *reader = &rescue->reader;
    uint64_t nonzero = 0;

    if (!rescue->telling || reader->size_bytes <= sizeof(struct file_header)) {
        return ERR_OK;
    }
    enum err err = wal_reader_skip_zeros(reader, sizeof(struct file_header), &nonzero);
    if (err == ERR_OK && nonzero < WAL_FIRST_FRAME_OFFSET && nonzero < reader->size_bytes) {
        meet_bad(rescue, reader->name, nonzero, "bytes before the first frame that aren't zero");
    }
    return err == ERR_IO ? ERR_OK : err;
}

static enum err read_segment(struct rescue *rescue)
{
    const struct wal_rescue_file *file = &rescue->files[rescue->index];
    enum wal_header_state state = WAL_HEADER_INTACT;
    struct err_detail why = {.text = ""};

    if (file->name[0] == '\0') {
        char name[FILES_NAME_BYTES];
        files_name(FILE_SEGMENT, file->number, name);
        meet_bad(rescue, name, 0, "the manifest names this file, and it is missing");
        return ERR_OK;
    }
    enum err err = wal_reader_open_damaged(&rescue->reader, rescue->dir, file->name,
                                           rescue->store_id, file->number, &state, &why);
    if (err == ERR_IO) {
        meet_bad(rescue, file->name, 0, "can't be read");
        return ERR_OK;
    }
    if (err != ERR_OK) {
        err_detail_set(rescue->detail, "%s", why.text);
        return err;
    }
    if (state != WAL_HEADER_INTACT) {
        const char *colon = strstr(why.text, ": ");
        meet_bad(rescue, file->name, 0, "%s", colon ? colon + 2 : why.text);
    }
    err = check_gap(rescue);
    if (err == ERR_OK) {
        err = read_frames(rescue);
    }
    if (err == ERR_FORMAT) {
        err_detail_set(rescue->detail, "%s", why.text);
    }
    wal_reader_close(&rescue->reader);
    return err;
}

static enum err read_segments(struct rescue *rescue, bool telling)
{
    rescue->telling = telling;
    for (rescue->index = 0; rescue->index < rescue->n_files; rescue->index++) {
        rescue->limit_seq = UINT64_MAX;
        for (size_t i = rescue->index + 1; telling && i < rescue->n_files; i++) {
            uint64_t begin = rescue->begins[i];
            rescue->limit_seq = begin < rescue->limit_seq ? begin : rescue->limit_seq;
        }
        enum err err = read_segment(rescue);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

/* What is missing at the log's end, and a bad place there. */
static void end_log(struct rescue *rescue)
{
    char name[FILES_NAME_BYTES] = "log";
    if (rescue->n_files > 0) {
        files_name(FILE_SEGMENT, rescue->files[rescue->n_files - 1].number, name);
    }
    if (rescue->over) {
        return;
    }
    if (missing_seq(rescue) <= rescue->durable_upto) {
        account(rescue, name, 0, rescue->durable_upto + 1);
    } else {
        tell(rescue, WAL_PLACE_TORN, 0, 0);
    }
}

enum err wal_rescue(struct vfs_dir *dir, uint64_t store_id, const struct wal_rescue_file files[],
                    size_t n_files, uint64_t covered_seq, uint64_t from_seq,
                    wal_rescue_record_fn *each, wal_rescue_place_fn *place, void *arg,
                    struct wal_rescued *ret, struct err_detail *detail)
{
    struct rescue *rescue = calloc(1, sizeof *rescue);
    uint64_t *begins = calloc(n_files + 1, sizeof *begins);
    enum err err = rescue && begins ? ERR_OK : ERR_NO_MEMORY;

    for (size_t i = 0; err == ERR_OK && i < n_files; i++) {
        begins[i] = UINT64_MAX;
    }
    if (err == ERR_OK) {
        *rescue = (struct rescue){.dir = dir,
                                  .store_id = store_id,
                                  .files = files,
                                  .n_files = n_files,
                                  .covered_seq = covered_seq,
                                  .from_seq = from_seq,
                                  .each = each,
                                  .place = place,
                                  .arg = arg,
                                  .detail = detail,
                                  .durable_upto = covered_seq,
                                  .begins = begins};
        err = read_segments(rescue, false);
    }
    if (err == ERR_OK) {
        err = read_segments(rescue, true);
    }
    if (err == ERR_OK) {
        end_log(rescue);
        *ret = rescue->result;
        ret->next_seq = missing_seq(rescue) > rescue->durable_upto ? missing_seq(rescue)
                                                                   : rescue->durable_upto + 1;
    }
    free(begins);
    free(rescue);
    return err;
}
