/* `varve check`, `varve dump` and `varve salvage` as they are called: lines, files, exit status. */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "service/command.h"
#include "store/lsm/engine.h"
#include "tests/support/check.h"
#include "tests/support/temp_dir.h"

enum { OUTPUT_BYTES = 65536 };

static char dir[TEMP_DIR_BYTES + 8], temp[TEMP_DIR_BYTES];
static char output[OUTPUT_BYTES];

/* Runs a shell's command line, whose exit status it returns. */
static int read_output(const char *line)
{
    assert_non_null(getenv("VARVE"));
    FILE *pipe = popen(line, "r");
    assert_non_null(pipe);
    size_t n = fread(output, 1, OUTPUT_BYTES - 1, pipe);
    output[n] = '\0';
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Runs `varve <command> <dir>/<name>`; standard error comes out with standard output. */
static int run(const char *command, const char *name)
{
    char line[2 * TEMP_DIR_BYTES];
    (void)snprintf(line, sizeof line, "exec 2>&1; exec \"$VARVE\" %s '%s%s%s'", command, dir,
                   name[0] != '\0' ? "/" : "", name);
    return read_output(line);
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

static off_t size_of(const char *name)
{
    char path[2 * TEMP_DIR_BYTES];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(stat(path, &status), 0);
    return status.st_size;
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
    const char *const calls[] = {"check", "check a b", "check --jsn a",
                                 "dump",  "dump a b",  "salvage a b c"};
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
    must_contain("\nput seq=2 key=\"b\" value_bytes=2 ");
    flip(table_name, 4096 + 44);
    flip("MANIFEST", 100);
    assert_int_equal(run("dump", "MANIFEST"), STATUS_FAILED);
    assert_int_equal(strncmp(output, "damage offset=64 text=\"a section is damaged\"\n", 45), 0);
    must_contain("\ntable level=0 number=\"");
    must_contain("\nsegment number=\"");
    assert_int_equal(run("dump --json", "MANIFEST"), STATUS_FAILED);
    assert_int_equal(count_json("damage"), 1);
    assert_int_equal(count_json("manifest"), 0);
    assert_int_equal(count_json("table"), 1);
    flip("MANIFEST", 100);
}

/* Without its header, index or footer the records of a table are still found. */
static void dump_shows_the_records_of_a_table_that_can_not_be_opened(void **state)
{
    const off_t offsets[] = {20, 4096 + 300, -20, -200};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(offsets); i++) {
        off_t size = size_of(table_name);
        off_t offset = offsets[i] < 0 ? size + offsets[i] : offsets[i];
        flip(table_name, offset);
        assert_int_equal(run("dump --json", table_name), STATUS_FAILED);
        assert_true(count_json("damage") >= 1);
        assert_int_equal(count_json("put"), 3);
        flip(table_name, offset);
    }
}

static void dump_refuses_other_files(void **state)
{
    static const struct {
        const char *name, *line;
    } files[] = {
        {"other", "varve dump: other is not named like a segment, table or manifest"},
        {"missing", "varve dump: cannot open missing: No such file"},
        {"00000000000000ff.log", "varve dump: cannot open 00000000000000ff.log: No such file"},
        {"none/MANIFEST", "varve dump: cannot open directory "},
    };
    (void)state;
    char path[2 * TEMP_DIR_BYTES];
    (void)snprintf(path, sizeof path, "%s/other", dir);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        assert_int_equal(run("dump", files[i].name), STATUS_FAILED);
        must_contain(files[i].line);
        assert_int_equal(n_lines(), 1);
    }
}

/* --- Salvage ---------------------------------------------------------------------------------- */

/* Runs `varve salvage <operands>`, in which $D stands for the directory. */
static int salvage(const char *operands)
{
    char line[4 * TEMP_DIR_BYTES];
    (void)snprintf(line, sizeof line, "exec 2>&1; D='%s'; exec \"$VARVE\" salvage %s", dir,
                   operands);
    return read_output(line);
}

/* What a copy holds: it is served by nobody, but opened and listed. */
static bool count_entry(void *arg, const struct store_entry *entry)
{
    (*(size_t *)arg)++;
    assert_true(entry->content_type.size == 10);
    return true;
}

static void on_counted(void *arg, enum err err, bool at_end)
{
    (void)arg;
    assert_ok(err);
    assert_true(at_end);
}

static size_t count_keys(const char *out)
{
    char path[2 * TEMP_DIR_BYTES];
    struct store_options options = store_options_default();
    struct store_range range = {.reverse = false};
    struct store_scan *scan;
    struct store *store;
    struct err_detail detail;
    size_t n = 0;
    (void)snprintf(path, sizeof path, "%s%s", dir, out);
    options.dir = path;
    options.memtable_bytes = ENGINE_MEMTABLE_MIN_BYTES;
    assert_ok(store_open(&options, &store, &detail));
    assert_ok(store_scan_new(store, &range, &scan));
    store_scan_run(scan, count_entry, on_counted, &n);
    store_scan_free(scan);
    store_close(store);
    return n;
}

static void salvage_of_a_good_directory_is_one_line(void **state)
{
    (void)state;
    assert_int_equal(salvage("$D $D.good"), STATUS_OK);
    must_contain(".good: 4 keys in ");
    must_contain(" bytes, copied from 1 table and 1 log segment; nothing is lost\n");
    assert_int_equal(n_lines(), 1);
    assert_int_equal(run("check", "../data.good"), STATUS_OK);
    must_contain("; no damage\n");
    assert_int_equal(count_keys(".good"), 4);
}

static void salvage_lists_what_is_lost_and_fails(void **state)
{
    (void)state;
    flip(table_name, 4096 + 44);
    flip(log_name, 4096 + 48 + 20);
    assert_int_equal(salvage("$D $D.lost"), STATUS_FAILED);
    must_contain("lost: ");
    must_contain(".log, offset 4096, write 4: a frame with");
    must_contain(".table, offset 4096, keys from \"a \\\"quoted\\\" key\" up to but without \"b\": "
                 "a record's checksum doesn't agree\n");
    must_contain("; lost: up to 2 records in 2 places\n");
    assert_int_equal(count_keys(".lost"), 2);
    flip(table_name, 4096 + 44);
    flip(log_name, 4096 + 48 + 20);
}

static void salvage_copies_without_a_manifest(void **state)
{
    char path[2 * TEMP_DIR_BYTES], aside[2 * TEMP_DIR_BYTES];
    (void)state;
    (void)snprintf(path, sizeof path, "%s/MANIFEST", dir);
    (void)snprintf(aside, sizeof aside, "%s.MANIFEST", dir);
    assert_int_equal(rename(path, aside), 0);
    assert_int_equal(run("check", ""), STATUS_FAILED);
    must_contain("damage: MANIFEST, offset 0: the manifest is missing");
    must_contain("1 table with 3 records");
    must_contain("1 log segment with 3 records, newest number 6; 1 damaged place\n");
    assert_int_equal(salvage("$D $D.all"), STATUS_FAILED);
    must_contain("lost: MANIFEST, offset 0: ");
    must_contain("; lost: an unknown number of records in 1 place\n");
    assert_int_equal(rename(aside, path), 0);
    assert_int_equal(count_keys(".all"), 4);
}

static void salvage_refuses_wrong_directories(void **state)
{
    (void)state;
    assert_int_equal(salvage("$D $D/inside"), STATUS_USAGE);
    must_contain("where nothing is written");
    assert_int_equal(salvage("$D $D"), STATUS_USAGE);
    assert_int_equal(salvage("$D"), STATUS_USAGE);
    assert_int_equal(salvage("$D.none $D.new"), STATUS_FAILED);
    must_contain("No such file or directory");
    assert_int_equal(salvage("$D $D.full"), STATUS_OK);
    assert_int_equal(salvage("$D $D.full"), STATUS_FAILED);
    must_contain("data.full isn't empty: give a directory that doesn't exist or is empty\n");
    assert_int_equal(n_lines(), 1);
    assert_int_equal(salvage("$D /proc/none"), STATUS_FAILED);
    must_contain("cannot use directory /proc/none: ");
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
        cmocka_unit_test(dump_shows_the_records_of_a_table_that_can_not_be_opened),
        cmocka_unit_test(dump_refuses_other_files),
        cmocka_unit_test(salvage_of_a_good_directory_is_one_line),
        cmocka_unit_test(salvage_lists_what_is_lost_and_fails),
        cmocka_unit_test(salvage_copies_without_a_manifest),
        cmocka_unit_test(salvage_refuses_wrong_directories),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
