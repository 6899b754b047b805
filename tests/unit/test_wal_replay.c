/* Reading the log back: what replay takes, what it refuses, and why. */
#include "store/lsm/wal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/base/crc32c.h"
#include "store/lsm/files.h"
#include "tests/support/check.h"
#include "tests/support/log_oracle.h"
#include "tests/support/made_log.h"

static const struct vfs *vfs;

/* --- Intact logs ------------------------------------------------------------------------------ */

static void hands_on_what_was_written(void **state)
{
    struct made_log *logs[] = {made_log_synced(vfs), made_log_pipelined(vfs)};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(logs); i++) {
        struct oracle_replay outcome = oracle_replay(logs[i], 1);
        assert_ok(outcome.err);
        assert_int_equal(outcome.seen_frames, logs[i]->n_frames);
        assert_int_equal(outcome.result.next_seq, made_log_end_seq(logs[i]));
        assert_false(outcome.result.torn);
        assert_string_equal(outcome.result.warning.text, "");
        assert_int_equal(outcome.total_bytes, MADE_SEGMENTS * MADE_SEGMENT_BYTES);
        assert_int_equal(outcome.done_bytes, outcome.total_bytes);
        made_log_free(logs[i]);
    }
}

static void a_log_without_frames_is_empty(void **state)
{
    struct made_log *log = made_log_new(vfs, NULL, 0, MADE_SEGMENT_BYTES);
    struct oracle_replay outcome = oracle_replay(log, 42);

    (void)state;
    assert_ok(outcome.err);
    assert_int_equal(outcome.result.next_seq, 42);
    assert_int_equal(outcome.seen_frames, 0);
    assert_false(outcome.result.torn);
    assert_ok(wal_replay(log->dir, MADE_STORE_ID, NULL, 0, 7, oracle_see_frame, NULL, &outcome,
                         &outcome.result, NULL));
    assert_int_equal(outcome.result.next_seq, 7);
    made_log_free(log);
}

static void passes_over_what_the_tables_have(void **state)
{
    struct made_log *log = made_log_synced(vfs);

    (void)state;
    for (size_t i = 0; i < log->n_frames; i++) {
        uint64_t from = log->frames[i].first_seq + log->frames[i].count;
        struct oracle_replay outcome = oracle_replay(log, from);
        assert_ok(outcome.err);
        assert_int_equal(outcome.seen_records, made_log_end_seq(log) - from);
        assert_int_equal(outcome.result.next_seq, made_log_end_seq(log));
        assert_false(outcome.result.torn);
    }
    made_log_free(log);
}

static void a_segment_whose_writes_the_tables_have_may_be_gone(void **state)
{
    struct made_log *log = made_log_synced(vfs);
    struct oracle_replay outcome = {.log = log, .from_seq = 8};

    (void)state;
    assert_ok(vfs_unlink(log->dir, made_name(1)));
    assert_ok(wal_replay(log->dir, MADE_STORE_ID, made_numbers + 1, 2, 8, oracle_see_frame, NULL,
                         &outcome, &outcome.result, &outcome.detail));
    assert_int_equal(outcome.result.next_seq, made_log_end_seq(log));
    made_log_free(log);
}

static void an_error_of_the_receiver_is_handed_on(void **state)
{
    struct made_log *log = made_log_synced(vfs);

    (void)state;
    struct oracle_replay outcome = oracle_run(
        (struct oracle_replay){.log = log, .from_seq = 1, .stop_at_seq = log->frames[3].first_seq});
    assert_err(ERR_NO_SPACE, outcome.err);
    assert_int_equal(outcome.seen_seq, log->frames[3].first_seq);
    made_log_free(log);
}

static void nothing_behind_a_torn_frame_is_applied(void **state)
{
    static const struct made_plan plan[] = {
        {1, 2, 0}, {1, 3, 2}, {1, 3, 2}, {1, 1, 2}, {2, 2, 2},
    };
    struct made_log *log = made_log_new(vfs, plan, COUNT_OF(plan), MADE_SEGMENT_BYTES);

    (void)state;
    made_log_zero(log, 1, log->frames[1].end - 8, 8);
    struct oracle_replay outcome = oracle_replay(log, 1);
    assert_ok(outcome.err);
    assert_int_equal(outcome.seen_seq, 2);
    assert_int_equal(outcome.result.next_seq, 3);
    assert_true(outcome.result.torn);
    assert_int_equal(outcome.result.torn_segment, 1);
    assert_int_equal(outcome.result.torn_offset, log->frames[1].offset);
    made_log_free(log);
}

static void a_hole_of_zeros_is_not_the_end(void **state)
{
    struct made_log *log = made_log_synced(vfs);
    const struct made_frame *lost = &log->frames[3]; /* made_numbers 5 and 6 */

    (void)state;
    made_log_zero(log, 1, lost->offset, lost->end - lost->offset);
    struct oracle_replay outcome = oracle_replay(log, 1);
    assert_err(ERR_CORRUPT, outcome.err);
    assert_non_null(strstr(outcome.detail.text, "zeros, but not to the end"));
    assert_non_null(strstr(outcome.detail.text, "writes 5 to 13 were on disk"));
    made_log_free(log);
}

static void the_refusal_names_file_offset_numbers_and_witness(void **state)
{
    struct made_log *log = made_log_synced(vfs);
    char expected[512];

    (void)state;
    made_log_zero(log, 1, log->frames[4].offset + 48 + 40, 1); /* number 7: its key */
    made_log_zero(log, 2, log->frames[9].offset, 48);          /* the last witness */
    struct oracle_replay outcome = oracle_replay(log, 1);
    assert_err(ERR_CORRUPT, outcome.err);
    (void)snprintf(expected, sizeof expected,
                   "0000000000000001.log, offset %u: a frame with a damaged record; the writes 7 "
                   "to 11 were on disk (says the frame at offset %u of 0000000000000002.log), and "
                   "of these some are damaged or lost; `varve check` looks closer",
                   (unsigned)log->frames[4].offset, (unsigned)log->frames[8].offset);
    assert_string_equal(outcome.detail.text, expected);
    made_log_free(log);
}

/* --- Files that aren't what they should be ---------------------------------------------------- */

static void a_missing_segment_is_refused_before_anything_is_handed_on(void **state)
{
    struct made_log *log = made_log_synced(vfs);

    (void)state;
    for (size_t s = 0; s < MADE_SEGMENTS; s++) {
        assert_ok(vfs_unlink(log->dir, made_name(made_numbers[s])));
        struct oracle_replay outcome = oracle_replay(log, 1);
        assert_err(ERR_CORRUPT, outcome.err);
        assert_int_equal(outcome.seen_frames, 0);
        assert_non_null(strstr(outcome.detail.text, "missing"));
        made_log_mend(log, made_numbers[s]);
    }
    made_log_free(log);
}

static void swapped_segments_are_refused(void **state)
{
    struct made_log *log = made_log_synced(vfs);

    (void)state;
    file_store(log->dir, made_name(1), log->written[1], log->size_bytes[1]);
    file_store(log->dir, made_name(2), log->written[0], log->size_bytes[0]);
    struct oracle_replay outcome = oracle_replay(log, 1);
    assert_err(ERR_CORRUPT, outcome.err);
    assert_non_null(strstr(outcome.detail.text, "another file under this name"));
    made_log_free(log);
}

static void frames_of_another_segment_are_not_taken(void **state)
{
    struct made_log *log = made_log_synced(vfs);
    const struct made_frame *first = &log->frames[5]; /* of segment 2 */

    (void)state;
    /* where they would join on */
    made_log_patch(log, 1, made_log_end_of(log, 1), log->written[1] + first->offset,
                   first->end - first->offset);
    made_log_zero(log, 2, WAL_FIRST_FRAME_OFFSET, made_log_end_of(log, 2) - WAL_FIRST_FRAME_OFFSET);
    struct oracle_replay outcome = oracle_replay(log, 1);
    assert_ok(outcome.err);
    assert_int_equal(outcome.seen_seq, 7);
    assert_true(outcome.result.torn);
    made_log_free(log);
}

static void another_stores_segment_is_refused(void **state)
{
    struct made_log *log = made_log_synced(vfs);
    struct oracle_replay outcome = {.log = log, .from_seq = 1};

    (void)state;
    assert_err(ERR_CORRUPT,
               wal_replay(log->dir, MADE_STORE_ID + 1, made_numbers, MADE_SEGMENTS, 1,
                          oracle_see_frame, NULL, &outcome, &outcome.result, &outcome.detail));
    assert_non_null(strstr(outcome.detail.text, "another store"));
    made_log_free(log);
}

static void a_later_format_is_refused_with_a_sentence(void **state)
{
    struct made_log *log = made_log_synced(vfs);
    struct file_header header;

    (void)state;
    memcpy(&header, log->written[1], sizeof header);
    header.format_version = 2;
    header.checksum = crc32c(0, &header, offsetof(struct file_header, checksum));
    made_log_patch(log, 2, 0, &header, sizeof header);
    struct oracle_replay outcome = oracle_replay(log, 1);
    assert_err(ERR_FORMAT, outcome.err);
    assert_int_equal(outcome.seen_frames, 0);
    assert_string_equal(outcome.detail.text,
                        "0000000000000002.log: has format version 2, this varve reads version 1: "
                        "use the version of varve that wrote it");
    made_log_free(log);
}

/* --- Sizes ------------------------------------------------------------------------------------ */

static void frames_may_be_larger_than_what_is_read_at_once(void **state)
{
    static const struct made_plan plan[] = {
        {1, 1, 0},     {1, WAL_FRAME_RECORDS_MAX, 1},
        {1, 9, 16385}, {1, 9000, 16394},
        {1, 0, 25394}, {1, 7000, 25394},
        {2, 1, 32394}, {2, 9000, 32395},
        {2, 0, 41395},
    };
    struct made_log *log = made_log_new(vfs, plan, COUNT_OF(plan), 8 << 20);

    (void)state;
    assert_true(log->frames[1].end - log->frames[1].offset > 2 << 20);
    assert_false(oracle_check(log));
    for (size_t i = 0; i < log->n_frames; i++) {
        made_log_zero(log, log->frames[i].segment, log->frames[i].end - 40, 40);
        oracle_check(log);
        made_log_mend(log, log->frames[i].segment);
    }
    made_log_free(log);
}

/* --- Errors of reading ------------------------------------------------------------------------ */

static struct {
    unsigned calls, fail_at;
    bool shortened;
} reads;

static enum err failing_read(struct vfs_file *file, uint64_t offset, void *into, size_t size,
                             size_t *ret_read)
{
    enum err err = vfs_posix()->read(file, offset, into, size, ret_read);

    if (++reads.calls != reads.fail_at) {
        return err;
    }
    *ret_read -= *ret_read > 0;
    return reads.shortened ? err : ERR_IO;
}

static void an_error_of_reading_is_never_the_end_of_the_log(void **state)
{
    struct made_log *log = made_log_synced(vfs);
    struct vfs failing = *vfs_posix();

    (void)state;
    failing.read = failing_read;
    vfs_dir_close(log->dir);
    assert_ok(vfs_dir_open(&failing, log->path, false, &log->dir));
    for (unsigned damaged = 0; damaged < 2; damaged++) {
        for (unsigned shortened = 0; shortened < 2; shortened++) {
            reads.shortened = shortened;
            for (reads.fail_at = 1;; reads.fail_at++) {
                reads.calls = 0;
                struct oracle_replay outcome = oracle_replay(log, 1);
                if (reads.calls < reads.fail_at) {
                    break;
                }
                assert_err(ERR_IO, outcome.err);
                assert_non_null(strstr(outcome.detail.text, "can't be read"));
            }
            assert_true(reads.fail_at > 6);
        }
        reads.fail_at = 0;
        made_log_zero(log, 2, log->frames[7].offset, 8);
    }
    vfs_dir_close(log->dir);
    assert_ok(vfs_dir_open(vfs_posix(), log->path, false, &log->dir));
    made_log_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hands_on_what_was_written),
        cmocka_unit_test(a_log_without_frames_is_empty),
        cmocka_unit_test(passes_over_what_the_tables_have),
        cmocka_unit_test(a_segment_whose_writes_the_tables_have_may_be_gone),
        cmocka_unit_test(an_error_of_the_receiver_is_handed_on),
        cmocka_unit_test(nothing_behind_a_torn_frame_is_applied),
        cmocka_unit_test(a_hole_of_zeros_is_not_the_end),
        cmocka_unit_test(the_refusal_names_file_offset_numbers_and_witness),
        cmocka_unit_test(a_missing_segment_is_refused_before_anything_is_handed_on),
        cmocka_unit_test(swapped_segments_are_refused),
        cmocka_unit_test(frames_of_another_segment_are_not_taken),
        cmocka_unit_test(another_stores_segment_is_refused),
        cmocka_unit_test(a_later_format_is_refused_with_a_sentence),
        cmocka_unit_test(frames_may_be_larger_than_what_is_read_at_once),
        cmocka_unit_test(an_error_of_reading_is_never_the_end_of_the_log),
    };

    vfs = vfs_posix();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
