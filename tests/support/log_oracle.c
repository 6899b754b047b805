/* log_oracle.c - replays, looks what is left of each frame, and compares. */
#include "tests/support/log_oracle.h"

#include <stdlib.h>
#include <string.h>

#include "tests/support/check.h"

/* --- Replaying -------------------------------------------------------------------------------- */

static const struct made_frame *frame_at(const struct made_log *log, uint64_t segment,
                                         uint64_t offset)
{
    for (size_t i = 0; i < log->n_frames; i++) {
        if (log->frames[i].segment == segment && log->frames[i].offset == offset) {
            return &log->frames[i];
        }
    }
    return NULL;
}

enum err oracle_see_frame(void *arg, const struct frame_header *frame,
                          const struct record *const records[], uint64_t segment_number,
                          uint64_t offset)
{
    struct oracle_replay *replay = arg;
    const struct made_frame *written = frame_at(replay->log, segment_number, offset);
    uint64_t next_seq = replay->seen_seq > 0 ? replay->seen_seq + 1 : replay->from_seq;

    assert_non_null(written);
    assert_true(frame->first_seq == written->first_seq && frame->first_seq == next_seq);
    assert_int_equal(frame->count, written->count);
    assert_true(frame->durable_upto == written->durable_upto);
    for (uint32_t i = 0; i < frame->count; i++) {
        assert_true(made_record_is(records[i], next_seq + i));
        replay->seen_seq = next_seq + i;
        if (replay->seen_seq == replay->stop_at_seq) {
            return ERR_NO_SPACE;
        }
    }
    replay->seen_records += frame->count;
    replay->seen_frames++;
    return ERR_OK;
}

static void see_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
    struct oracle_replay *replay = arg;

    assert_true(done_bytes >= replay->done_bytes && done_bytes <= total_bytes);
    replay->done_bytes = done_bytes;
    replay->total_bytes = total_bytes;
}

struct oracle_replay oracle_run(struct oracle_replay replay)
{
    replay.err =
        wal_replay(replay.log->dir, MADE_STORE_ID, made_numbers, MADE_SEGMENTS, replay.from_seq,
                   oracle_see_frame, see_progress, &replay, &replay.result, &replay.detail);
    return replay;
}

struct oracle_replay oracle_replay(struct made_log *log, uint64_t from_seq)
{
    return oracle_run((struct oracle_replay){.log = log, .from_seq = from_seq});
}

/* --- Oracle ----------------------------------------------------------------------------------- */

struct foreseen {
    bool damage;       /* refused */
    uint64_t next_seq; /* the first number that isn't handed on */
};

/* What is left of the log. */
struct remains {
    bool intact[MADE_FRAMES_MAX];
    bool rest_is_bad[MADE_SEGMENTS]; /* something else than zeros behind the frames */
};

static struct remains look(struct made_log *log)
{
    struct remains remains = {.intact = {false}};

    for (size_t s = 0; s < MADE_SEGMENTS; s++) {
        uint64_t size;
        uint8_t *bytes = file_load(log->dir, made_name(made_numbers[s]), &size);
        for (size_t i = 0; i < log->n_frames; i++) {
            const struct made_frame *frame = &log->frames[i];
            if (frame->segment == made_numbers[s]) {
                remains.intact[i] = frame->end <= size &&
                                    memcmp(bytes + frame->offset, log->written[s] + frame->offset,
                                           frame->end - frame->offset) == 0;
            }
        }
        for (uint64_t at = made_log_end_of(log, made_numbers[s]); at < size; at++) {
            remains.rest_is_bad[s] |= bytes[at] != 0;
        }
        free(bytes);
    }
    return remains;
}

/* The first frame of the next segment, if it is intact and begins with next_seq; else 0. */
static size_t onward_to(const struct made_log *log, const struct remains *remains, size_t from,
                        uint64_t next_seq)
{
    uint64_t segment = log->frames[from].segment;
    size_t i = from;

    while (i < log->n_frames && log->frames[i].segment == segment) {
        i++;
    }
    bool joins = i < log->n_frames && log->frames[i].segment == segment + 1 && remains->intact[i] &&
                 log->frames[i].first_seq == next_seq;
    return joins ? i : 0;
}

static struct foreseen judge(const struct made_log *log, const struct remains *remains, size_t from,
                             uint64_t missing_seq)
{
    struct foreseen foreseen = {.next_seq = missing_seq};

    for (size_t i = from; i < log->n_frames; i++) {
        foreseen.damage |= remains->intact[i] && log->frames[i].durable_upto >= missing_seq;
    }
    return foreseen;
}

static struct foreseen foresee(struct made_log *log)
{
    struct remains remains = look(log);
    uint64_t next_seq = 1;

    for (size_t i = 0; i < log->n_frames; i++) {
        const struct made_frame *frame = &log->frames[i];
        bool last = i + 1 == log->n_frames || frame[1].segment != frame->segment;

        if (remains.intact[i]) {
            next_seq = frame->first_seq + frame->count;
            if (last && remains.rest_is_bad[frame->segment - 1] &&
                onward_to(log, &remains, i, next_seq) == 0) {
                return judge(log, &remains, i + 1, next_seq);
            }
        } else if (frame->count > 0 || last || !remains.intact[i + 1]) {
            size_t onward = onward_to(log, &remains, i, next_seq);
            if (onward == 0) {
                return judge(log, &remains, i, next_seq);
            }
            i = onward - 1;
        }
    }
    return (struct foreseen){.next_seq = next_seq};
}

bool oracle_check(struct made_log *log)
{
    struct foreseen foreseen = foresee(log);
    struct oracle_replay replay = oracle_replay(log, 1);

    assert_err(foreseen.damage ? ERR_CORRUPT : ERR_OK, replay.err);
    assert_int_equal(replay.seen_seq, foreseen.next_seq - 1);
    if (foreseen.damage) {
        assert_non_null(strstr(replay.detail.text, ".log, offset "));
        assert_non_null(strstr(replay.detail.text, "`varve check`"));
        return true;
    }
    assert_int_equal(replay.result.next_seq, foreseen.next_seq);
    assert_int_equal(replay.result.records, replay.seen_records);
    assert_int_equal(replay.result.frames, replay.seen_frames);
    assert_int_equal(replay.done_bytes, replay.total_bytes);
    if (replay.result.torn) {
        assert_non_null(strstr(replay.result.warning.text, ".log, offset "));
    }
    return false;
}
