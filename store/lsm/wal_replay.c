/*
 * wal_replay.c - reading the log back after a crash.
 *
 * Torn tail or damage? A crash can lose or tear only what was never synced, which is a tail of the
 * log and was never acknowledged. So the first place where no frame joins on (the bad place) ends
 * the replay in either case: what is beyond it is never applied, only asked for witnesses. An
 * intact frame says up to which number everything was on disk when it was written (durable_upto).
 * If that reaches the first number that is missing, the disk has lost what it once had, and the
 * store must not be opened as if it had never been written.
 *
 * A bad place that hides no number is passed over, with a warning. That is so if an intact frame
 * that begins with the next number stands where only an empty frame fits between (48 bytes on;
 * of a torn frame with records, its first record's header would be there, which no user writes),
 * or at the begin of the next segment (then what is bad lies in the unused rest of this one).
 *
 * Some findings need no witness, because no crash leaves them behind:
 *   - a missing file, or a damaged file header: both were synced before the manifest named them.
 *     (A damaged header with nothing but zeros behind it is passed over: no frame was there.)
 *   - a bad place among numbers that the tables cover: those were synced once.
 *   - an intact frame whose numbers were given before, or of which the tables cover a part: frames
 *     are written in order, and tables end where frames end.
 *
 * What can't be told: the last frame, damaged after its sync and before any later frame (an empty
 * one is written when the log falls idle, and at close), looks like a torn one.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "store/lsm/files.h"
#include "store/lsm/wal.h"
#include "store/lsm/wal_reader.h"

#define LOOK_CLOSER    "`varve check` looks closer"
#define PROGRESS_BYTES (UINT64_C(8) << 20)

struct replay {
    struct vfs_dir *dir;
    uint64_t store_id;
    const uint64_t *numbers;
    size_t n_numbers;
    wal_frame_fn *each;
    wal_progress_fn *progress; /* may be NULL */
    void *arg;
    struct err_detail *detail; /* may be NULL */

    uint64_t covered_seq; /* every number up to this is in the tables */
    uint64_t chain_seq;   /* the number that joins on to the last frame met; 0: none was met yet */
    uint64_t done_bytes;  /* of segments that were read to their end */
    uint64_t total_bytes;
    uint64_t reported_bytes;
    struct wal_replay result;
};

/* The first place where no frame joins on to the one before. */
struct bad_place {
    bool met;
    bool intact;  /* there is a whole frame, but of other numbers… */
    bool certain; /* …such that no crash leaves it behind */
    size_t index; /* of its segment */
    uint64_t offset;
    char text[160];
};

/* What the intact frames beyond the bad place say, and the manifest. */
struct witnesses {
    uint64_t durable_upto; /* the greatest number known to have been durable… */
    char name[96];         /* …and who says so */
    uint64_t lowest_seq;   /* least first_seq of a frame beyond the bad place */
};

/* --- Segments --------------------------------------------------------------------------------- */

/* Opens numbers[index]. *ret_empty: there is nothing to read in it, though its header is damaged;
 * the warning says so. */
static enum err open_segment(struct replay *replay, size_t index, struct wal_reader *reader,
                             bool *ret_empty)
{
    uint64_t number = replay->numbers[index];
    struct err_detail why = {.text = ""};
    enum wal_header_state state = WAL_HEADER_INTACT;
    char name[FILES_NAME_BYTES];

    files_name(FILE_SEGMENT, number, name);
    enum err err =
        wal_reader_open(reader, replay->dir, name, replay->store_id, number, &state, &why);
    if (err == ERR_NOT_FOUND) {
        err_detail_set(replay->detail, "%s: the manifest names this file, and it is missing", name);
        return ERR_CORRUPT;
    }
    if (err) {
        err_detail_set(replay->detail, "%s", why.text);
        return err;
    }
    reader->detail = replay->detail;
    *ret_empty = state == WAL_HEADER_DAMAGED_ALONE;
    if (*ret_empty) {
        err_detail_set(&replay->result.warning,
                       "%s; passed over, because nothing was ever written behind it", why.text);
    }
    if (state == WAL_HEADER_DAMAGED) {
        err_detail_set(replay->detail, "%s; acknowledged writes may be lost; " LOOK_CLOSER,
                       why.text);
        wal_reader_close(reader);
        return ERR_CORRUPT;
    }
    return ERR_OK;
}

/* Before any frame is handed on: what can't be opened at all should change nothing. */
static enum err inspect_segments(struct replay *replay)
{
    for (size_t i = 0; i < replay->n_numbers; i++) {
        struct wal_reader reader;
        bool empty;

        assert(i == 0 || replay->numbers[i - 1] < replay->numbers[i]);
        enum err err = open_segment(replay, i, &reader, &empty);
        if (err) {
            return err;
        }
        replay->total_bytes += reader.size_bytes;
        wal_reader_close(&reader);
    }
    return ERR_OK;
}

static void report_progress(struct replay *replay, uint64_t done_bytes, bool always)
{
    if (replay->progress && (always || done_bytes - replay->reported_bytes >= PROGRESS_BYTES)) {
        replay->reported_bytes = done_bytes;
        replay->progress(replay->arg, done_bytes, replay->total_bytes);
    }
}

/* --- Frames ----------------------------------------------------------------------------------- */

/* True if the frame joins on. A gap among numbers that the tables cover is none. */
static bool joins(const struct replay *replay, const struct wal_frame *frame,
                  struct bad_place *ret_bad)
{
    uint64_t first = frame->header.first_seq;
    uint64_t next = replay->result.next_seq;

    if (first >= replay->chain_seq && first <= next &&
        (first == next || first + frame->header.count <= next)) {
        return true;
    }
    uint64_t expected = replay->chain_seq > 0 ? replay->chain_seq : next;
    bool covered_in_part = first >= replay->chain_seq && first < next;
    *ret_bad = (struct bad_place){
        .met = true,
        .intact = true,
        .certain = first <= next,
        .offset = frame->offset,
    };
    (void)snprintf(ret_bad->text, sizeof ret_bad->text,
                   "a frame of %" PRIu32 " records from number %" PRIu64
                   " on, where %s number %" PRIu64,
                   frame->header.count, first,
                   covered_in_part ? "the tables end before" : "the next should begin with",
                   covered_in_part ? next : expected);
    return false;
}

/* The frame joins on: hands it on unless the tables have it. */
static enum err take_frame(struct replay *replay, const struct wal_reader *reader,
                           const struct wal_frame *frame)
{
    const struct frame_header *header = &frame->header;

    replay->chain_seq = header->first_seq + header->count;
    if (header->first_seq < replay->result.next_seq) {
        return ERR_OK;
    }
    replay->result.next_seq = replay->chain_seq;
    replay->result.frames++;
    replay->result.records += header->count;
    return replay->each(replay->arg, header, frame->records, reader->number, frame->offset);
}

/* There is no intact frame at `offset`: is it the segment's end? */
static enum err end_or_bad(struct wal_reader *reader, uint64_t offset, const char *why,
                           struct bad_place *bad)
{
    uint64_t nonzero;
    enum err err = wal_reader_skip_zeros(reader, offset, &nonzero);

    if (err || nonzero == reader->size_bytes) {
        return err;
    }
    *bad = (struct bad_place){.met = true, .offset = offset};
    if (nonzero - offset >= WAL_FRAME_HEADER_BYTES) {
        (void)snprintf(bad->text, sizeof bad->text,
                       "zeros, but not to the end: other bytes from offset %" PRIu64 " on",
                       nonzero);
    } else {
        (void)snprintf(bad->text, sizeof bad->text, "%s", why);
    }
    return ERR_OK;
}

/* Takes frames from `offset` up to the segment's end or to a bad place. */
static enum err take_frames(struct replay *replay, struct wal_reader *reader, uint64_t offset,
                            struct bad_place *bad)
{
    for (;;) {
        struct wal_frame frame;
        const char *why;
        enum err err = wal_reader_frame(reader, offset, &frame, &why);
        if (!err && why) {
            return end_or_bad(reader, offset, why, bad);
        }
        if (err || !joins(replay, &frame, bad)) {
            return err;
        }
        err = take_frame(replay, reader, &frame);
        if (err) {
            return err;
        }
        offset = frame.end;
        report_progress(replay, replay->done_bytes + offset, false);
    }
}

/* --- Torn or damaged -------------------------------------------------------------------------- */

static enum err hear_witnesses(struct wal_reader *reader, uint64_t offset,
                               struct witnesses *witnesses)
{
    for (;;) {
        struct wal_frame frame;
        bool found;
        enum err err = wal_reader_find(reader, offset, &frame, &found);
        if (err || !found) {
            return err;
        }
        if (frame.header.durable_upto > witnesses->durable_upto) {
            witnesses->durable_upto = frame.header.durable_upto;
            (void)snprintf(witnesses->name, sizeof witnesses->name,
                           "the frame at offset %" PRIu64 " of %s", frame.offset, reader->name);
        }
        if (frame.header.first_seq < witnesses->lowest_seq) {
            witnesses->lowest_seq = frame.header.first_seq;
        }
        offset = frame.end;
    }
}

/* The rest of the bad place's segment, open in `reader`, and all later ones. */
static enum err hear_all_witnesses(struct replay *replay, struct wal_reader *reader,
                                   const struct bad_place *bad, struct witnesses *ret_witnesses)
{
    struct witnesses witnesses = {
        .durable_upto = replay->covered_seq,
        .name = "the manifest",
        .lowest_seq = UINT64_MAX,
    };
    enum err err = hear_witnesses(reader, bad->offset, &witnesses);

    for (size_t i = bad->index + 1; !err && i < replay->n_numbers; i++) {
        struct wal_reader later;
        bool empty;

        err = open_segment(replay, i, &later, &empty);
        if (!err) {
            err = empty ? ERR_OK : hear_witnesses(&later, WAL_FIRST_FRAME_OFFSET, &witnesses);
            wal_reader_close(&later);
        }
    }
    *ret_witnesses = witnesses;
    return err;
}

static enum err refuse(struct replay *replay, const char *name, const struct bad_place *bad,
                       uint64_t missing_seq, const struct witnesses *witnesses)
{
    if (missing_seq > witnesses->durable_upto) {
        err_detail_set(replay->detail,
                       "%s, offset %" PRIu64 ": %s; no crash leaves this behind; " LOOK_CLOSER,
                       name, bad->offset, bad->text);
    } else {
        err_detail_set(
            replay->detail,
            "%s, offset %" PRIu64 ": %s; the writes %" PRIu64 " to %" PRIu64
            " were on disk (says %s), and of these some are damaged or lost; " LOOK_CLOSER,
            name, bad->offset, bad->text, missing_seq, witnesses->durable_upto, witnesses->name);
    }
    return ERR_CORRUPT;
}

/* Ends the replay at the bad place, whose segment is open in `reader`: with a warning or an error.
 */
static enum err judge(struct replay *replay, struct wal_reader *reader, const struct bad_place *bad)
{
    struct wal_replay *result = &replay->result;
    struct witnesses witnesses;
    enum err err = hear_all_witnesses(replay, reader, bad, &witnesses);
    if (err) {
        return err;
    }

    uint64_t missing_seq = replay->chain_seq;
    if (missing_seq == 0) {
        /* Which numbers stood before the first frame that is there isn't known; if even that one
         * is covered by the tables, then they were. */
        missing_seq =
            witnesses.lowest_seq < result->next_seq ? witnesses.lowest_seq : result->next_seq;
    }
    if (bad->certain || missing_seq <= witnesses.durable_upto) {
        return refuse(replay, reader->name, bad, missing_seq, &witnesses);
    }
    result->torn = true;
    result->torn_segment = reader->number;
    result->torn_offset = bad->offset;
    err_detail_set(&result->warning,
                   "%s, offset %" PRIu64
                   ": %s; dropped from there on, as writes from number %" PRIu64
                   " on that were never acknowledged",
                   reader->name, bad->offset, bad->text, missing_seq);
    return ERR_OK;
}

/* --- Segments in order ------------------------------------------------------------------------ */

/* Is there an intact frame at `offset` that begins with the next number? */
static enum err goes_on_at(const struct replay *replay, struct wal_reader *reader, uint64_t offset,
                           bool *ret_yes)
{
    struct wal_frame frame;
    const char *why;

    *ret_yes = false;
    if (offset > reader->size_bytes) {
        return ERR_OK;
    }
    enum err err = wal_reader_frame(reader, offset, &frame, &why);
    *ret_yes = !err && !why && frame.header.first_seq == replay->result.next_seq;
    return err;
}

static enum err next_segment_goes_on(struct replay *replay, size_t index, bool *ret_yes)
{
    struct wal_reader reader;
    bool empty;

    *ret_yes = false;
    if (index + 1 == replay->n_numbers) {
        return ERR_OK;
    }
    enum err err = open_segment(replay, index + 1, &reader, &empty);
    if (!err) {
        err = empty ? ERR_OK : goes_on_at(replay, &reader, WAL_FIRST_FRAME_OFFSET, ret_yes);
        wal_reader_close(&reader);
    }
    return err;
}

/* Where the log goes on behind a bad place that hides no number. */
enum onward { ONWARD_NOWHERE, ONWARD_HERE, ONWARD_NEXT_SEGMENT };

static enum err find_onward(struct replay *replay, struct wal_reader *reader,
                            const struct bad_place *bad, enum onward *ret_onward)
{
    bool yes;

    *ret_onward = ONWARD_NOWHERE;
    if (bad->intact) {
        return ERR_OK;
    }
    enum err err = goes_on_at(replay, reader, bad->offset + WAL_FRAME_HEADER_BYTES, &yes);
    if (!err && yes) {
        *ret_onward = ONWARD_HERE;
    } else if (!err) {
        err = next_segment_goes_on(replay, bad->index, &yes);
        *ret_onward = !err && yes ? ONWARD_NEXT_SEGMENT : ONWARD_NOWHERE;
    }
    return err;
}

/* Takes all frames of numbers[index]. *ret_over: the log ends in it. */
static enum err replay_segment(struct replay *replay, size_t index, struct wal_reader *reader,
                               bool *ret_over)
{
    uint64_t offset = WAL_FIRST_FRAME_OFFSET;

    for (;;) {
        struct bad_place bad = {.met = false};
        enum onward onward = ONWARD_NOWHERE;
        enum err err = take_frames(replay, reader, offset, &bad);
        if (!err && bad.met) {
            bad.index = index;
            err = find_onward(replay, reader, &bad, &onward);
        }
        if (err || !bad.met) {
            return err;
        }
        if (onward == ONWARD_NOWHERE) {
            *ret_over = true;
            return judge(replay, reader, &bad);
        }
        err_detail_set(&replay->result.warning,
                       "%s, offset %" PRIu64 ": %s; passed over, because no write is missing there",
                       reader->name, bad.offset, bad.text);
        if (onward == ONWARD_NEXT_SEGMENT) {
            return ERR_OK;
        }
        offset = bad.offset + WAL_FRAME_HEADER_BYTES;
    }
}

static enum err replay_segments(struct replay *replay)
{
    bool over = false;

    for (size_t i = 0; i < replay->n_numbers && !over; i++) {
        struct wal_reader reader;
        bool empty;
        enum err err = open_segment(replay, i, &reader, &empty);
        if (err) {
            return err;
        }
        if (!empty) {
            err = replay_segment(replay, i, &reader, &over);
        }
        replay->done_bytes += reader.size_bytes;
        wal_reader_close(&reader);
        if (err) {
            return err;
        }
        report_progress(replay, over ? replay->total_bytes : replay->done_bytes, true);
    }
    return ERR_OK;
}

enum err wal_replay(struct vfs_dir *dir, uint64_t store_id, const uint64_t numbers[],
                    size_t n_numbers, uint64_t next_seq, wal_frame_fn *each,
                    wal_progress_fn *progress, void *arg, struct wal_replay *ret,
                    struct err_detail *detail)
{
    struct replay replay = {
        .dir = dir,
        .store_id = store_id,
        .numbers = numbers,
        .n_numbers = n_numbers,
        .each = each,
        .progress = progress,
        .arg = arg,
        .detail = detail,
        .covered_seq = next_seq - 1,
        .result = {.next_seq = next_seq},
    };

    assert(store_id != 0 && next_seq > 0);
    enum err err = inspect_segments(&replay);
    if (!err) {
        err = replay_segments(&replay);
    }
    if (!err) {
        *ret = replay.result;
    }
    return err;
}
