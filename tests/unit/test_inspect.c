/* `varve check` and `varve dump` as they are called: lines, files, exit status. */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "service/command.h"
#include "store/lsm/engine.h"
#include "tests/support/check.h"
#include "tests/support/temp_dir.h"

enum { OUTPUT_BYTES = 65536 };

static char dir[TEMP_DIR_BYTES + 8], temp[TEMP_DIR_BYTES];
static char output[OUTPUT_BYTES];

/* Runs `varve <command> <dir>/<name>`; standard error comes out with standard output. */
static int run(const char *command, const char *name)
{
    char line[2 * TEMP_DIR_BYTES];
    assert_non_null(getenv("VARVE"));
    (void)snprintf(line, sizeof line, "exec 2>&1; exec \"$VARVE\" %s '%s%s%s'", command, dir,
                   name[0] != '\0' ? "/" : "", name);
    FILE *pipe = popen(line, "r");
    assert_non_null(pipe);
    size_t n = fread(output, 1, OUTPUT_BYTES - 1, pipe);
    output[n] = '\0';
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static size_t n_lines(void)
{
    size_t n = 0;
    for (const char *at = output; (at = strchr(at, '\n')) != NULL; at++) {
        n++;
    }
    return n;
}

static void must_contain(const char *text)
{
    if (!strstr(output, text)) {
        fail_msg("no '%s' in: %s", text, output);
    }
}

/* --- A store without threads, so that nothing changes while its files are copied --- */

static void on_ready(void *arg, enum err err, struct store_write *write)
{
    assert_ok(err);
    *(struct store_write **)arg = write;
}

static void on_written(void *arg, enum err err, const struct store_written *written)
{
    (void)written;
    assert_ok(err);
    *(bool *)arg = true;
}

static void on_flushed(void *arg, enum err err)
{
    assert_ok(err);
    *(bool *)arg = true;
}

/* Puts `value`, or deletes where it is NULL; durable on return, in a frame of its own. */
static void write_one(struct store *store, struct bytes key, const char *value)
{
    struct store_write_size size = {.ops = 1, .bytes = 1024};
    struct store_write *write = NULL;
    bool done = false;
    store_write_new(store, &size, on_ready, &write);
    assert_non_null(write);
    if (value) {
        struct store_put put = {
            .key = key, .content_type = bytes_of_text("text/plain"), .value_bytes = strlen(value)};
        void *into;
        assert_ok(store_write_put(write, &put, &into));
        memcpy(into, value, strlen(value));
    } else {
        assert_ok(store_write_delete(write, key));
    }
    store_write_commit(write, on_written, &done);
    while (engine_log_step(store)) {
    }
    assert_true(done);
}

static void flush(struct store *store)
{
    bool done = false;
    store_flush(store, on_flushed, &done);
    while (!done) {
        engine_flush_step(store);
        engine_log_step(store);
    }
}

static char table_name[FILES_NAME_BYTES], log_name[FILES_NAME_BYTES];

/* A table with three keys, one of which isn't UTF-8; two puts, a delete in the log. As after a
 * kill: what a running store has on disk is copied. */
static int setup(void **state)
{
    struct store_options options = store_options_default();
    struct store *store;
    struct err_detail detail;
    char running[sizeof dir], line[4 * TEMP_DIR_BYTES];
    (void)state;
    temp_dir_make(temp);
    (void)snprintf(running, sizeof running, "%s/run", temp);
    (void)snprintf(dir, sizeof dir, "%s/data", temp);
    options.dir = running;
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    options.max_value_bytes = 65536;
    options.max_inflight_bytes = UINT64_C(1) << 20;
    options.manual = true;
    rcu_door_set_manual(true);
    assert_ok(store_open(&options, &store, &detail));
    write_one(store, bytes_of_text("a \"quoted\" key"), "1");
    write_one(store, bytes_of_text("b"), "22");
    write_one(store, bytes_of("\xff\x00z", 3), "333");
    flush(store);
    write_one(store, bytes_of_text("c"), "4444");
    write_one(store, bytes_of_text("b"), NULL);
    write_one(store, bytes_of_text("d"), "55555");
    files_name(FILE_SEGMENT, wal_number(store->wal), log_name);
    files_name(FILE_TABLE, table_info(atomic_load(&store->view)->levels[0].tables[0])->number,
               table_name);
    (void)snprintf(line, sizeof line, "cp -r '%s' '%s'", running, dir);
    assert_int_equal(system(line), 0);
    store_close(store);
    rcu_door_set_manual(false);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    temp_dir_remove(temp);
    return 0;
}

/* Turns one bit over. */
static void flip(const char *name, off_t offset)
{
    char path[2 * TEMP_DIR_BYTES];
    unsigned char byte;
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    assert_int_equal(close(fd), 0);
}

static void check_of_a_good_directory_is_one_line(void **state)
{
    (void)state;
    assert_int_equal(run("check", ""), STATUS_OK);
    assert_int_equal(strncmp(output, dir, strlen(dir)), 0);
    must_contain(": 1 table with 3 records in ");
    must_contain("newest number 6; no damage");
    assert_int_equal(run("check --quiet", ""), STATUS_OK);
    assert_string_equal(output, "");
}

static void check_names_file_and_offset_of_one_flipped_bit(void **state)
{
    const struct {
        const char *name;
        off_t offset;
        const char *line;
    } flips[] = {
        {"MANIFEST", 100, "damage: MANIFEST, offset 64: a section is damaged\n"},
        {table_name, 4096 + 44,
         ".table, offset 4096, keys from \"a \\\"quoted\\\" key\" to the last: a record"},
        {log_name, 4096 + 60, ".log, offset 4096, write 4: a frame with"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(flips); i++) {
        flip(flips[i].name, flips[i].offset);
        assert_int_equal(run("check", ""), STATUS_FAILED);
        must_contain(flips[i].line);
        assert_int_equal(strncmp(output, "damage: ", 8), 0);
        must_contain(flips[i].name);
        must_contain(" damaged place");
        flip(flips[i].name, flips[i].offset);
    }
}

static void a_torn_tail_is_a_note_and_no_failure(void **state)
{
    (void)state;
    flip(log_name, 100000);
    assert_int_equal(run("check", ""), STATUS_OK);
    assert_int_equal(strncmp(output, "note: ", 6), 0);
    must_contain("; no damage, 1 note\n");
    flip(log_name, 100000);
}

static void wrong_directories_are_one_line(void **state)
{
    (void)state;
    assert_int_equal(run("check", "missing"), STATUS_FAILED);
    must_contain("varve check: cannot open data directory ");
    must_contain("No such file or directory");
    assert_int_equal(n_lines(), 1);

    assert_int_equal(run("check", "MANIFEST"), STATUS_FAILED);
    must_contain("Not a directory");
    assert_int_equal(n_lines(), 1);

    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(run("check", ""), STATUS_FAILED);
    must_contain("is in use by another process");
    assert_int_equal(n_lines(), 1);
    assert_int_equal(close(fd), 0);

    flip("MANIFEST", 8);
    assert_int_equal(run("check", ""), STATUS_FAILED);
    must_contain("damage: MANIFEST, offset 0: has format version 5, this varve reads version 1");
    flip("MANIFEST", 8);
}

static void wrong_calls_are_usage(void **state)
{
    const char *const calls[] = {"check", "check a b", "check --jsn a", "dump", "dump a b"};
    char line[1000];
    (void)state;
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        (void)snprintf(line, sizeof line, "\"$VARVE\" %s 2>/dev/null", calls[i]);
        int status = system(line);
        assert_int_equal(WEXITSTATUS(status), STATUS_USAGE);
    }
}

static void dump_prints_an_entry_a_line(void **state)
{
    (void)state;
    assert_int_equal(run("dump", table_name), STATUS_OK);
    assert_int_equal(n_lines(), 4);
    assert_int_equal(strncmp(output, "table number=\"000000", 20), 0);
    must_contain("\nput seq=1 key=\"a \\\"quoted\\\" key\" value_bytes=1 modified_ms=");
    must_contain(" content_type=\"text/plain\"");
    must_contain("\nput seq=3 key64=\"_wB6\" value_bytes=3 ");
    assert_int_equal(run("dump", log_name), STATUS_OK);
    assert_int_equal(strncmp(output, "segment number=\"000000", 22), 0);
    must_contain("\nframe offset=4096 records=1 ");
    must_contain("\nput seq=4 key=\"c\" value_bytes=4 ");
    must_contain("\ndelete seq=5 key=\"b\" last_of_batch=1\n");
    must_contain("\nput seq=6 key=\"d\" value_bytes=5 ");
    assert_int_equal(run("dump", "MANIFEST"), STATUS_OK);
    assert_int_equal(strncmp(output, "manifest number=", 16), 0);
    must_contain("\ntable level=0 number=\"");
    must_contain("\nsegment number=\"");
}

/* Every line is an object; returns how many have `kind` as their entry. */
static size_t count_json(const char *kind)
{
    size_t n = 0;
    for (char *line = output, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        json_t *entry = json_loadb(line, (size_t)(end - line), 0, NULL);
        assert_non_null(entry);
        const char *of = json_string_value(json_object_get(entry, "entry"));
        assert_non_null(of);
        n += strcmp(of, kind) == 0;
        json_decref(entry);
    }
    return n;
}

static void dump_prints_json_lines(void **state)
{
    (void)state;
    assert_int_equal(run("dump --json", table_name), STATUS_OK);
    assert_int_equal(count_json("table"), 1);
    assert_int_equal(count_json("put"), 3);
    must_contain("\"key\":\"a \\\"quoted\\\" key\"");
    must_contain("\"key64\":\"_wB6\"");
    assert_int_equal(run("dump --json", log_name), STATUS_OK);
    assert_int_equal(count_json("segment"), 1);
    assert_int_equal(count_json("put"), 2);
    assert_int_equal(count_json("delete"), 1);
    assert_true(count_json("frame") >= 3);
    assert_int_equal(run("dump --json", "MANIFEST"), STATUS_OK);
    assert_int_equal(count_json("manifest"), 1);
    assert_int_equal(count_json("table"), 1);
}

static void dump_shows_damage_and_fails(void **state)
{
    (void)state;
    flip(log_name, 4096 + 60);
    assert_int_equal(run("dump", log_name), STATUS_FAILED);
    must_contain("\ndamage offset=4096 text=\"");
    must_contain("\nput seq=6 key=\"d\" value_bytes=5 "); /* it goes on behind */
    flip(log_name, 4096 + 60);
    flip(table_name, 4096 + 44);
    assert_int_equal(run("dump", table_name), STATUS_FAILED);
    must_contain("\ndamage offset=4096 text=\"");
    flip(table_name, 4096 + 44);
    flip("MANIFEST", 100);
    assert_int_equal(run("dump", "MANIFEST"), STATUS_FAILED);
    assert_string_equal(output, "damage offset=64 text=\"a section is damaged\"\n");
    flip("MANIFEST", 100);
}

static void dump_refuses_other_files(void **state)
{
    static const struct {
        const char *name, *line;
    } files[] = {
        {"missing", "varve dump: missing is not named like a segment, table or manifest"},
        {"00000000000000ff.log", "varve dump: cannot open 00000000000000ff.log: No such file"},
        {"none/MANIFEST", "varve dump: cannot open directory "},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        assert_int_equal(run("dump", files[i].name), STATUS_FAILED);
        must_contain(files[i].line);
        assert_int_equal(n_lines(), 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_of_a_good_directory_is_one_line),
        cmocka_unit_test(check_names_file_and_offset_of_one_flipped_bit),
        cmocka_unit_test(a_torn_tail_is_a_note_and_no_failure),
        cmocka_unit_test(wrong_directories_are_one_line),
        cmocka_unit_test(wrong_calls_are_usage),
        cmocka_unit_test(dump_prints_an_entry_a_line),
        cmocka_unit_test(dump_prints_json_lines),
        cmocka_unit_test(dump_shows_damage_and_fails),
        cmocka_unit_test(dump_refuses_other_files),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
