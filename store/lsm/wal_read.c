/* wal_read.c - reading one segment alone, past whatever is damaged: for looking, never for use. */
#include <inttypes.h>
#include <stdarg.h>

#include "store/lsm/files.h"
#include "store/lsm/wal.h"
#include "store/lsm/wal_reader.h"

struct reading {
    struct wal_reader reader;
    wal_frame_fn *each;
    wal_bad_fn *bad;
    void *arg;
    uint64_t next_seq; /* that should join on; 0: any */
};

static void tell_bad(const struct reading *reading, uint64_t offset, const char *format, ...)
    PRINTF_LIKE(3, 4);

static void tell_bad(const struct reading *reading, uint64_t offset, const char *format, ...)
{
    struct err_detail text;
    va_list args;

    va_start(args, format);
    err_detail_vset(&text, format, args);
    va_end(args);
    reading->bad(reading->arg, offset, text.text);
}

/* The zeros between the file header and the first frame. */
static enum err check_gap(struct reading *reading)
{
    uint64_t nonzero;
    enum err err = wal_reader_skip_zeros(&reading->reader, sizeof(struct file_header), &nonzero);

    if (!err && nonzero < WAL_FIRST_FRAME_OFFSET && nonzero < reading->reader.size_bytes) {
        tell_bad(reading, nonzero, "bytes before the first frame that aren't zero");
    }
    return err;
}

/* There is no intact frame at `offset`: goes to the next one, if there is one. */
static enum err pass_over(struct reading *reading, uint64_t offset, const char *why,
                          struct wal_frame *ret_frame, bool *ret_found)
{
    uint64_t nonzero;
    enum err err = wal_reader_skip_zeros(&reading->reader, offset, &nonzero);

    *ret_found = false;
    if (err || nonzero == reading->reader.size_bytes) {
        return err;
    }
    err = wal_reader_find(&reading->reader, offset, ret_frame, ret_found);
    if (err) {
        return err;
    }
    if (nonzero - offset >= WAL_FRAME_HEADER_BYTES) {
        why = "zeros where a frame should begin, but not to the end";
    }
    if (*ret_found) {
        tell_bad(reading, offset, "%s; the next intact frame is at offset %" PRIu64, why,
                 ret_frame->offset);
    } else {
        tell_bad(reading, offset, "%s; no intact frame follows", why);
    }
    return ERR_OK;
}

static enum err hand_on(struct reading *reading, const struct wal_frame *frame)
{
    const struct frame_header *header = &frame->header;

    if (reading->next_seq != 0 && header->first_seq != reading->next_seq) {
        tell_bad(reading, frame->offset,
                 "the numbers don't join: %" PRIu64 " should follow, %" PRIu64 " does",
                 reading->next_seq, header->first_seq);
    }
    reading->next_seq = header->first_seq + header->count;
    return reading->each(reading->arg, header, frame->records, reading->reader.number,
                         frame->offset);
}

static enum err read_frames(struct reading *reading)
{
    uint64_t offset = WAL_FIRST_FRAME_OFFSET;

    while (offset <= reading->reader.size_bytes) {
        struct wal_frame frame;
        const char *why;
        bool found = true;
        enum err err = wal_reader_frame(&reading->reader, offset, &frame, &why);

        if (!err && why) {
            err = pass_over(reading, offset, why, &frame, &found);
        }
        if (!err && found) {
            err = hand_on(reading, &frame);
        }
        if (err || !found) {
            return err;
        }
        offset = frame.end;
    }
    return ERR_OK;
}

enum err wal_read_segment(struct vfs_dir *dir, const char *name, wal_frame_fn *each,
                          wal_bad_fn *bad, void *arg, struct err_detail *detail)
{
    struct reading reading = {.each = each, .bad = bad, .arg = arg};
    struct err_detail why = {.text = ""};
    enum wal_header_state state = WAL_HEADER_INTACT;
    enum file_kind kind;
    uint64_t number;

    if (!files_parse_name(name, &kind, &number) || kind != FILE_SEGMENT) {
        number = UINT64_MAX; /* a copy under a name of somebody's own */
    }
    enum err err = wal_reader_open(&reading.reader, dir, name, 0, number, &state, &why);
    if (err) {
        err_detail_set(detail, "%s", why.text);
        return err;
    }
    reading.reader.detail = detail;
    if (state != WAL_HEADER_INTACT) {
        tell_bad(&reading, 0, "%s", why.text);
    }
    if (reading.reader.size_bytes > sizeof(struct file_header)) {
        err = check_gap(&reading);
    }
    if (!err) {
        err = read_frames(&reading);
    }
    wal_reader_close(&reading.reader);
    return err;
}
