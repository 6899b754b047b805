/* The checker of histories: what it accepts, what it rejects, and which answer it blames. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/linear.h"

enum { ROWS_MAX = 16, MOMENTS_MAX = 64 };

/* One operation; or, where it has no steps, the end of the process. Rows end at call 0. */
struct row {
    uint64_t call, end; /* end 0: no answer */
    enum linear_outcome outcome;
    struct linear_step steps[LINEAR_STEPS_MAX]; /* up to the first on key 0 */
};

struct history {
    const char *name;
    const char *blames; /* part of the report's marked line; NULL: it is a good history */
    struct row rows[ROWS_MAX];
};

enum { A = 1, B = 2 }; /* keys */

/* Rows. The first step of a refused one is the refused one. */
#define DONE(from, to, ...)    \
    {                          \
        from, to, LINEAR_DONE, \
        {                      \
            __VA_ARGS__        \
        }                      \
    }
#define REFUSED(from, to, ...)   \
    {                            \
        from, to, LINEAR_FAILED, \
        {                        \
            __VA_ARGS__          \
        }                        \
    }
#define MAYBE(from, ...)       \
    {                          \
        from, 0, LINEAR_MAYBE, \
        {                      \
            __VA_ARGS__        \
        }                      \
    }
#define DOWN(at)     \
    {                \
        .call = (at) \
    }

/* Steps with their answers. Value n has tag n where nothing else is said. */
#define NEW(k, v) .key = (k), .effect = LINEAR_PUT, .value = (v)
#define MISSED    .met = LINEAR_ABSENT
#define MET(t)    .met = LINEAR_PRESENT, .met_tag = (t)

#define PUT(k, v) \
    {             \
        NEW(k, v) \
    }
#define CREATE(k, v)                       \
    {                                      \
        NEW(k, v), MISSED, .made_tag = (v) \
    }
#define REPLACE(k, v)                                     \
    {                                                     \
        NEW(k, v), .met = LINEAR_PRESENT, .made_tag = (v) \
    }
#define IF_ABSENT(k, v)                                                   \
    {                                                                     \
        NEW(k, v), MISSED, .condition = LINEAR_IF_ABSENT, .made_tag = (v) \
    }
#define IF_TAG(k, t, v)                                                              \
    {                                                                                \
        NEW(k, v), MET(t), .condition = LINEAR_IF_MATCH, .tag = (t), .made_tag = (v) \
    }
#define TRY_TAG(k, t, v)                                    \
    {                                                       \
        NEW(k, v), .condition = LINEAR_IF_MATCH, .tag = (t) \
    }
#define NOT_ABSENT(k, t)                                  \
    {                                                     \
        NEW(k, 99), MET(t), .condition = LINEAR_IF_ABSENT \
    }
#define NOT_TAG(k, t, is)                                             \
    {                                                                 \
        NEW(k, 99), MET(is), .condition = LINEAR_IF_MATCH, .tag = (t) \
    }
#define NO_TAG(k, t)                                                 \
    {                                                                \
        NEW(k, 99), MISSED, .condition = LINEAR_IF_MATCH, .tag = (t) \
    }
#define GOT(k, v)                            \
    {                                        \
        .key = (k), MET(v), .met_value = (v) \
    }
#define GOT_NOTHING(k)     \
    {                      \
        .key = (k), MISSED \
    }
#define SAW_TAG(k, t)      \
    {                      \
        .key = (k), MET(t) \
    }
#define DEL(k)                              \
    {                                       \
        .key = (k), .effect = LINEAR_DELETE \
    }
#define DELETED(k)                                                 \
    {                                                              \
        .key = (k), .effect = LINEAR_DELETE, .met = LINEAR_PRESENT \
    }
#define DELETED_NOTHING(k)                          \
    {                                               \
        .key = (k), .effect = LINEAR_DELETE, MISSED \
    }
#define DELETED_TAG(k, t)                                                                     \
    {                                                                                         \
        .key = (k), .effect = LINEAR_DELETE, MET(t), .condition = LINEAR_IF_MATCH, .tag = (t) \
    }

/* clang-format off */
static const struct history histories[] = {
    /* --- good --- */

    {"accepts the life of a key", NULL, {
        DONE(1, 2, GOT_NOTHING(A)), DONE(3, 4, CREATE(A, 1)), DONE(5, 6, GOT(A, 1)),
        DONE(7, 8, REPLACE(A, 2)), DONE(9, 10, IF_TAG(A, 2, 3)), REFUSED(11, 12, NOT_TAG(A, 2, 3)),
        DONE(13, 14, DELETED(A)), DONE(15, 16, DELETED_NOTHING(A)), REFUSED(17, 18, NO_TAG(A, 3)),
        DONE(19, 20, IF_ABSENT(A, 4)), REFUSED(21, 22, NOT_ABSENT(A, 4)),
        DONE(23, 24, DELETED_TAG(A, 4))}},
    {"accepts writes at the same time in either order", NULL, {
        DONE(1, 5, CREATE(A, 1)), DONE(2, 4, REPLACE(A, 2)), DONE(6, 7, GOT(A, 2)),
        DONE(8, 12, CREATE(B, 3)), DONE(9, 11, REPLACE(B, 4)), DONE(13, 14, GOT(B, 4))}},
    {"accepts old and then new while a put is under way", NULL, {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 10, REPLACE(A, 2)), DONE(4, 5, GOT(A, 1)),
        DONE(6, 9, GOT(A, 2)), DONE(7, 8, GOT(A, 1))}},
    {"accepts an unanswered put that is seen, and one that isn't", NULL, {
        DONE(1, 2, CREATE(A, 1)), MAYBE(3, PUT(A, 2)), MAYBE(4, PUT(A, 3)), DONE(5, 6, GOT(A, 1)),
        DOWN(7), DONE(8, 9, GOT(A, 3)), DONE(10, 11, GOT(A, 3))}},
    {"accepts an unanswered put that happens after its client went on", NULL, {
        DONE(1, 2, CREATE(A, 1)), MAYBE(3, PUT(A, 2)), DONE(4, 5, REPLACE(A, 3)),
        DONE(6, 7, GOT(A, 3)), DONE(8, 9, GOT(A, 2))}},
    {"accepts that a refusal reveals the tag of an unanswered put", NULL, {
        DONE(1, 2, CREATE(A, 1)), MAYBE(3, PUT(A, 2)), REFUSED(4, 5, NOT_ABSENT(A, 0x77)),
        DONE(6, 7, IF_TAG(A, 0x77, 3)), DONE(8, 9, GOT(A, 3))}},
    {"accepts that a tag is explained only by a later read", NULL, {
        MAYBE(1, PUT(A, 2)), MAYBE(2, PUT(A, 3)), REFUSED(3, 4, NOT_ABSENT(A, 0x77)),
        DONE(5, 6, {.key = A, MET(0x77), .met_value = 3}), DONE(7, 8, {.key = A, MET(0x78), .met_value = 2})}},
    {"accepts an unanswered conditional put that happened", NULL, {
        DONE(1, 2, CREATE(A, 1)), MAYBE(3, TRY_TAG(A, 1, 2)), DOWN(4), DONE(5, 6, GOT(A, 2))}},
    {"accepts an unanswered delete as the reason for an absence", NULL, {
        DONE(1, 2, CREATE(A, 1)), MAYBE(3, DEL(A)), DONE(4, 5, GOT(A, 1)),
        DONE(6, 7, GOT_NOTHING(A)), DONE(8, 9, IF_ABSENT(A, 2))}},
    {"accepts that one of two deletes finds nothing", NULL, {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 6, DELETED(A)), DONE(4, 5, DELETED_NOTHING(A))}},
    {"accepts two creations with a delete under way", NULL, {
        DONE(1, 2, IF_ABSENT(A, 1)), DONE(3, 8, DELETED(A)), DONE(4, 5, IF_ABSENT(A, 2)),
        DONE(6, 7, GOT(A, 2))}},
    {"accepts a batch that is seen whole, and one refused whole", NULL, {
        DONE(1, 4, CREATE(A, 1), CREATE(B, 2)), DONE(2, 3, GOT(A, 1), GOT(B, 2)),
        REFUSED(5, 6, NOT_TAG(A, 9, 1), PUT(B, 3)), DONE(7, 8, GOT(B, 2)),
        DONE(9, 10, IF_TAG(A, 1, 4), DELETED(B)), DONE(11, 12, GOT(A, 4), GOT_NOTHING(B))}},
    {"accepts an unanswered batch that is seen one key after the other", NULL, {
        DONE(1, 2, CREATE(A, 1)), MAYBE(3, PUT(A, 2), PUT(B, 3)), DONE(4, 5, GOT_NOTHING(B)),
        DOWN(6), DONE(7, 8, GOT(B, 3)), DONE(9, 10, GOT(A, 2))}},
    {"accepts tags in place of values", NULL, {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 6, REPLACE(A, 2)), DONE(4, 5, SAW_TAG(A, 2))}},

    /* --- bad --- */

    {"rejects a stale read after an acknowledged write", "get k1, was v1", {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 4, REPLACE(A, 2)), DONE(5, 6, GOT(A, 1))}},
    {"rejects an absence after an acknowledged write", "get k1, was absent", {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 4, GOT_NOTHING(A))}},
    {"rejects two updates of one version", "if tag 1", {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 6, IF_TAG(A, 1, 2)), DONE(4, 5, IF_TAG(A, 1, 3))}},
    {"rejects two creations without a delete", "if absent, was absent", {
        DONE(1, 4, IF_ABSENT(A, 1)), DONE(2, 3, IF_ABSENT(A, 2))}},
    {"rejects a creation over what is there", "put k1 = v2, was absent", {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 4, CREATE(A, 2))}},
    {"rejects a replacement of nothing", "put k1 = v1, was there", {DONE(1, 2, REPLACE(A, 1))}},
    {"rejects a value that was read and then lost in a crash", "get k1, was v1", {
        DONE(1, 2, CREATE(A, 1)), MAYBE(3, PUT(A, 2)), DONE(4, 5, GOT(A, 2)), DOWN(6),
        DONE(7, 8, GOT(A, 1))}},
    {"rejects an absence that was read and then lost in a crash", "get k1, was v1", {
        DONE(1, 2, CREATE(A, 1)), MAYBE(3, DEL(A)), DONE(4, 5, GOT_NOTHING(A)), DOWN(6),
        DONE(7, 8, GOT(A, 1))}},
    {"rejects a refusal because of what was then lost in a crash", "get k1, was v1", {
        DONE(1, 2, CREATE(A, 1)), MAYBE(3, PUT(A, 2)), REFUSED(4, 5, NOT_TAG(A, 1, 0x77)), DOWN(6),
        DONE(7, 8, GOT(A, 1))}},
    {"rejects an acknowledged put that is lost after a restart", "get k1, was v1", {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 4, REPLACE(A, 2)), DOWN(5), DONE(6, 7, GOT(A, 1))}},
    {"rejects an acknowledged delete that is lost after a restart", "get k1, was v1", {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 4, DELETED(A)), DOWN(5), DONE(6, 7, GOT(A, 1))}},
    {"rejects reads that go backward while a put is under way", "get k1, was v1", {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 8, REPLACE(A, 2)), DONE(4, 5, GOT(A, 2)),
        DONE(6, 7, GOT(A, 1))}},
    {"rejects reads that go backward over a restart", "get k1, was v1", {
        DONE(1, 2, CREATE(A, 1)), MAYBE(3, PUT(A, 2)), DOWN(4), DONE(5, 6, GOT(A, 2)), DOWN(7),
        DONE(8, 9, GOT(A, 1))}},
    {"rejects a write that comes back after the next restart", "get k1, was v2", {
        DONE(1, 2, CREATE(A, 1)), MAYBE(3, PUT(A, 2)), DOWN(4), DONE(5, 6, GOT(A, 1)), DOWN(7),
        DONE(8, 9, GOT(A, 2))}},
    {"rejects an unanswered put that happens twice", "get k1, was v2", {
        MAYBE(1, PUT(A, 2)), DONE(2, 3, GOT(A, 2)), DONE(4, 5, DELETED(A)), DONE(6, 7, GOT(A, 2))}},
    {"rejects an unanswered conditional put whose condition never held", "get k1, was v2", {
        DONE(1, 2, CREATE(A, 1)), MAYBE(3, TRY_TAG(A, 5, 2)), MAYBE(4, TRY_TAG(A, 1, 5)), DOWN(5),
        REFUSED(6, 7, NOT_TAG(A, 9, 1)), DONE(8, 9, GOT(A, 2))}},
    {"rejects half a batch", "get k1, was v1 with tag 1; get k2, was absent", {
        DONE(1, 4, CREATE(A, 1), CREATE(B, 2)), DONE(2, 3, GOT(A, 1), GOT_NOTHING(B))}},
    {"rejects a batch that comes one key after the other", "get k2, was absent", {
        DONE(1, 6, CREATE(A, 1), CREATE(B, 2)), DONE(2, 3, GOT(A, 1)), DONE(4, 5, GOT_NOTHING(B))}},
    {"rejects half an unanswered batch after a crash", "get k2, was absent", {
        MAYBE(1, PUT(A, 1), PUT(B, 2)), DOWN(2), DONE(3, 4, GOT(A, 1)), DONE(5, 6, GOT_NOTHING(B))}},
    {"rejects a refused batch of which a part happened", "get k2, was v3", {
        DONE(1, 2, CREATE(A, 1)), REFUSED(3, 4, NOT_TAG(A, 9, 1), PUT(B, 3)), DONE(5, 6, GOT(B, 3))}},
    {"rejects that one version is deleted twice", "delete k1, was there", {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 6, DELETED(A)), DONE(4, 5, DELETED(A))}},
    {"rejects that a delete finds nothing where something is", "delete k1, was absent", {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 4, DELETED_NOTHING(A))}},
    {"rejects a refusal that rests on nothing", "if absent, was there with tag 77: refused", {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 4, DELETED(A)), REFUSED(5, 6, NOT_ABSENT(A, 0x77))}},
    {"rejects a refusal because of a tag that nobody's is", "with tag 77: refused", {
        DONE(1, 2, CREATE(A, 1)), REFUSED(3, 4, NOT_TAG(A, 1, 0x77))}},
    {"rejects a refusal though the condition holds", "if tag 1, was there with tag 1: refused", {
        DONE(1, 2, CREATE(A, 1)), REFUSED(3, 4, NOT_TAG(A, 1, 1))}},
    {"rejects a condition that holds for an old version", "if tag 1", {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 4, REPLACE(A, 2)), DONE(5, 6, IF_TAG(A, 1, 3))}},
    {"rejects a tag that names two values", "get k1, was v2 with tag 1", {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 4, PUT(A, 2)),
        DONE(5, 6, {.key = A, MET(1), .met_value = 2})}},
    {"rejects a value with two tags", "get k1, was v1 with tag 5", {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 4, {.key = A, MET(5), .met_value = 1})}},
    {"rejects that a revealed tag names another put later", "if absent, was there with tag 77", {
        MAYBE(1, PUT(A, 1)), REFUSED(2, 3, NOT_ABSENT(A, 0x77)), DONE(4, 5, DELETED(A)),
        MAYBE(6, PUT(A, 2)), REFUSED(7, 8, NOT_ABSENT(A, 0x77))}},
    {"rejects two tags of one unanswered put", "if absent, was there with tag 78", {
        MAYBE(1, PUT(A, 1)), REFUSED(2, 3, NOT_ABSENT(A, 0x77)), REFUSED(4, 5, NOT_ABSENT(A, 0x78))}},
    {"rejects a tag of another key in a condition", "get k1, was v3", {
        MAYBE(1, PUT(A, 1)), MAYBE(2, PUT(B, 2)), REFUSED(3, 4, NOT_ABSENT(B, 0x77)),
        MAYBE(5, TRY_TAG(A, 0x77, 3)), DONE(6, 7, GOT(A, 3))}},
    {"rejects a tag on two keys", "if absent, was there with tag 77", {
        MAYBE(1, PUT(A, 1)), MAYBE(2, PUT(B, 2)), REFUSED(3, 4, NOT_ABSENT(A, 0x77)),
        REFUSED(5, 6, NOT_ABSENT(B, 0x77))}},
    {"rejects a value before its put began", "get k1, was v1", {
        DONE(1, 2, GOT(A, 1)), DONE(3, 4, PUT(A, 1))}},
    {"rejects a value that nobody put", "get k1, was v7", {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 4, GOT(A, 7))}},
    {"rejects another key's value", "get k2, was v1", {
        DONE(1, 2, CREATE(A, 1)), DONE(3, 4, GOT(B, 1))}},
};
/* clang-format on */

static size_t count_steps(const struct row *row)
{
    size_t n = 0;
    while (n < LINEAR_STEPS_MAX && row->steps[n].key != 0) {
        n++;
    }
    return n;
}

/* Plays the rows in the order of their moments. */
static struct linear_history *play(const struct row rows[])
{
    struct linear_history *history = linear_new();
    size_t numbers[ROWS_MAX];
    for (uint64_t moment = 1; moment < MOMENTS_MAX; moment++) {
        for (size_t i = 0; i < ROWS_MAX && rows[i].call != 0; i++) {
            size_t n_steps = count_steps(&rows[i]);
            if (rows[i].call == moment && n_steps == 0) {
                linear_down(history);
            } else if (rows[i].call == moment) {
                numbers[i] = linear_call(history, (unsigned)i, rows[i].steps, n_steps);
            } else if (rows[i].end == moment && rows[i].outcome == LINEAR_DONE) {
                linear_done(history, numbers[i], rows[i].steps);
            } else if (rows[i].end == moment) {
                linear_failed(history, numbers[i], rows[i].steps, 0);
            }
        }
    }
    return history;
}

/* The line of the report that is marked. */
static const char *marked_line(char *report)
{
    char *mark = strstr(report, "   <== no");
    mark = mark != NULL ? mark : strstr(report, "   <== contra");
    assert_non_null(mark);
    *mark = '\0';
    return strrchr(report, '\n') + 1;
}

static void decides_rightly(void **state)
{
    const struct history *test = *state;
    struct linear_history *history = play(test->rows);
    char *report;
    enum linear_verdict verdict = linear_check(history, &report);
    if (test->blames == NULL && verdict != LINEAR_GOOD) {
        fail_msg("a good history was rejected:\n%s", report);
    }
    if (test->blames != NULL) {
        assert_int_equal(verdict, LINEAR_BAD);
        const char *line = marked_line(report);
        if (strstr(line, test->blames) == NULL) {
            fail_msg("blames another answer than \"%s\":\n%s", test->blames, line);
        }
    }
    free(report);
    linear_free(history);
}

/* Reads that say nothing about the fault are left out of the report, and so is what came later. */
static void reports_only_what_matters(void **state)
{
    (void)state;
    static const struct row rows[ROWS_MAX] = {DONE(1, 2, CREATE(A, 1)),   DONE(3, 4, GOT(A, 1)),
                                              DONE(5, 6, REPLACE(A, 2)),  DONE(7, 8, CREATE(B, 3)),
                                              DONE(9, 10, GOT(A, 1)),     DONE(11, 12, GOT(A, 2)),
                                              DONE(13, 14, REPLACE(A, 4))};
    struct linear_history *history = play(rows);
    char *report;
    assert_int_equal(linear_check(history, &report), LINEAR_BAD);
    assert_string_equal(report, "  call..end\n"
                                "      1..2     client 0  put k1 = v1, was absent, got tag 1\n"
                                "      5..6     client 2  put k1 = v2, was there, got tag 2\n"
                                "      9..10    client 4  get k1, was v1 with tag 1"
                                "   <== no order explains this\n");
    free(report);
    linear_free(history);
}

/* Many unanswered writes, any set of which may have happened, and a read that none explains. */
static void says_when_it_gives_up(void **state)
{
    (void)state;
    struct linear_history *history = linear_new();
    for (unsigned i = 0; i < 20; i++) {
        struct linear_step put = PUT(A, linear_value(history));
        (void)linear_call(history, i, &put, 1);
    }
    struct linear_step get = GOT(A, 1000);
    linear_done(history, linear_call(history, 20, &get, 1), &get);
    char *report;
    enum linear_verdict verdict = linear_check(history, &report);
    assert_int_equal(verdict, LINEAR_TOO_HARD);
    assert_non_null(strstr(report, "gave up"));
    free(report);
    linear_free(history);
}

static void weighs_a_history(void **state)
{
    (void)state;
    static const struct row rows[ROWS_MAX] = {
        DONE(1, 2, CREATE(A, 1)),
        DONE(3, 8, IF_TAG(A, 1, 2)),
        REFUSED(4, 5, NOT_TAG(A, 9, 1)),
        DONE(6, 7, GOT(A, 1), GOT_NOTHING(B)),
        MAYBE(9, PUT(A, 3)),
        MAYBE(10, DEL(B)),
        DOWN(11),
        DONE(12, 13, GOT(A, 3)),
    };
    struct linear_history *history = play(rows);
    struct linear_worth worth = {0};
    linear_forget(history, linear_call(history, 0, rows[0].steps, 1));
    linear_weigh(history, &worth);
    assert_int_equal(worth.ops, 7);
    assert_int_equal(worth.reads, 2);
    assert_int_equal(worth.overlaps, 2);
    assert_int_equal(worth.held, 1);
    assert_int_equal(worth.refused, 1);
    assert_int_equal(worth.maybe, 2);
    assert_int_equal(worth.maybe_seen, 1);
    assert_int_equal(worth.together, 1);
    linear_free(history);
}

int main(void)
{
    struct CMUnitTest tests[COUNT_OF(histories) + 3] = {
        cmocka_unit_test(reports_only_what_matters),
        cmocka_unit_test(says_when_it_gives_up),
        cmocka_unit_test(weighs_a_history),
    };
    for (size_t i = 0; i < COUNT_OF(histories); i++) {
        tests[3 + i] = (struct CMUnitTest){.name = histories[i].name,
                                           .test_func = decides_rightly,
                                           .initial_state = (void *)(uintptr_t)&histories[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
