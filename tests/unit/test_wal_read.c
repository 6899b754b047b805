/* Looking at one segment alone, past whatever is damaged. */
#include "store/lsm/wal.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/check.h"
#include "tests/support/made_log.h"

static const struct vfs *vfs;

/* --- Reading one segment ---------------------------------------------------------------------- */

struct look {
    unsigned frames, bad;
    uint64_t bad_at;
    char bad_text[256];
};

static enum err look_frame(void *arg, const struct frame_header *frame,
                           const struct record *const records[], uint64_t segment_number,
                           uint64_t offset)
{
    struct look *look = arg;

    (void)segment_number;
    (void)offset;
    for (uint32_t i = 0; i < frame->count; i++) {
        assert_true(made_record_is(records[i], frame->first_seq + i));
    }
    look->frames++;
    return ERR_OK;
}

static void look_bad(void *arg, uint64_t offset, const char *text)
{
    struct look *look = arg;

    look->bad++;
    look->bad_at = offset;
    (void)snprintf(look->bad_text, sizeof look->bad_text, "%s", text);
}

static struct look read_segment(struct made_log *log, uint64_t number)
{
    struct look look = {.frames = 0};

    assert_ok(wal_read_segment(log->dir, made_name(number), look_frame, look_bad, &look, NULL));
    return look;
}

static void looking_at_an_intact_segment_finds_nothing_bad(void **state)
{
    struct made_log *log = made_log_synced(vfs);

    (void)state;
    struct look look = read_segment(log, 1);
    assert_int_equal(look.frames, 5);
    assert_int_equal(look.bad, 0);
    look = read_segment(log, 3);
    assert_int_equal(look.frames, 0);
    assert_int_equal(look.bad, 0);
    /* a copy under any name */
    file_store(log->dir, "copy", log->written[1], log->size_bytes[1]);
    look = (struct look){.frames = 0};
    assert_ok(wal_read_segment(log->dir, "copy", look_frame, look_bad, &look, NULL));
    assert_int_equal(look.frames, 5);
    assert_int_equal(look.bad, 0);
    made_log_free(log);
}

static void looking_goes_on_behind_damage(void **state)
{
    struct made_log *log = made_log_synced(vfs);

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        made_log_zero(log, 1, log->frames[i].offset + 44, 4);
        struct look look = read_segment(log, 1);
        assert_int_equal(look.frames, 4);
        /* the place, and that the made_numbers behind it don't join, if they don't */
        assert_int_equal(look.bad, log->frames[i].count > 0 && i > 0 && i < 4 ? 2 : 1);
        if (look.bad == 1) {
            assert_int_equal(look.bad_at, log->frames[i].offset);
        }
        made_log_mend(log, 1);
    }
    made_log_free(log);
}

static void every_flipped_bit_of_a_segment_is_seen(void **state)
{
    struct made_log *log = made_log_synced(vfs);

    (void)state;
    for (uint64_t at = 0; at < log->size_bytes[0]; at++) {
        unsigned bit = (unsigned)at % 8;
        uint8_t byte = (uint8_t)(log->written[0][at] ^ (1u << bit));
        struct look look = {.frames = 0};
        made_log_patch(log, 1, at, &byte, 1);
        enum err err = wal_read_segment(log->dir, made_name(1), look_frame, look_bad, &look, NULL);
        assert_true(err == ERR_FORMAT ? at / 4 == 2 : err == ERR_OK);
        assert_true(err == ERR_FORMAT || look.bad > 0);
        assert_true(err == ERR_FORMAT || look.frames >= 4);
        made_log_patch(log, 1, at, &log->written[0][at], 1);
    }
    made_log_free(log);
}

static void looking_at_any_truncation_ends_well(void **state)
{
    struct made_log *log = made_log_synced(vfs);
    struct err_detail detail;

    (void)state;
    for (uint64_t size = 0; size < made_log_end_of(log, 1) + 8; size++) {
        struct look look = {.frames = 0};
        made_log_cut(log, 1, size);
        assert_ok(wal_read_segment(log->dir, made_name(1), look_frame, look_bad, &look, &detail));
        unsigned whole = 0;
        bool at_edge = size == WAL_FIRST_FRAME_OFFSET;
        for (size_t i = 0; i < 5; i++) {
            whole += log->frames[i].end <= size;
            at_edge |= log->frames[i].end == size;
        }
        assert_int_equal(look.frames, whole);
        assert_true(look.bad > 0 || at_edge || size > made_log_end_of(log, 1));
    }
    made_log_free(log);
}

static void looking_at_no_file_is_an_error(void **state)
{
    struct made_log *log = made_log_synced(vfs);
    struct look look = {.frames = 0};
    struct err_detail detail;

    (void)state;
    assert_err(ERR_NOT_FOUND,
               wal_read_segment(log->dir, "none", look_frame, look_bad, &look, &detail));
    assert_non_null(strstr(detail.text, "none"));
    made_log_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(looking_at_an_intact_segment_finds_nothing_bad),
        cmocka_unit_test(looking_goes_on_behind_damage),
        cmocka_unit_test(every_flipped_bit_of_a_segment_is_seen),
        cmocka_unit_test(looking_at_any_truncation_ends_well),
        cmocka_unit_test(looking_at_no_file_is_an_error),
    };

    vfs = vfs_posix();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
