#include "api/httpdate.h"

#include <string.h>

enum { DAY_S = 86400 };

#define FIRST_S (-62167219200) /* 0000-01-01T00:00:00Z */
#define LAST_S  253402300799   /* 9999-12-31T23:59:59Z */

static const char day_names[7][10] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                      "Thursday", "Friday", "Saturday"};
static const char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

struct date {
    int year, month, day; /* month and day from 1 */
};

/*
 * Days and dates, after Howard Hinnant's "chrono-compatible low-level date algorithms": years
 * begin in March, so that the leap day is the last one, and 400 years are always 146097 days.
 */
static int64_t days_from_date(struct date date)
{
    int64_t year = date.month <= 2 ? date.year - 1 : date.year;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (date.month + (date.month > 2 ? -3 : 9)) + 2) / 5 + date.day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return era * 146097 + day_of_era - 719468;
}

static struct date date_from_days(int64_t days)
{
    int64_t shifted = days + 719468;
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153; /* from March */
    struct date date;

    date.day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
    date.month = (int)(month < 10 ? month + 3 : month - 9);
    date.year = (int)(year_of_era + era * 400 + (date.month <= 2 ? 1 : 0));
    return date;
}

static void put_number(char *at, unsigned digits, int64_t number)
{
    while (digits-- > 0) {
        at[digits] = (char)('0' + number % 10);
        number /= 10;
    }
}

static int64_t clamp_s(int64_t unix_s)
{
    if (unix_s < FIRST_S) {
        return FIRST_S;
    }
    return unix_s > LAST_S ? LAST_S : unix_s;
}

static int64_t floor_div(int64_t number, int64_t by)
{
    return number / by - (number % by < 0 ? 1 : 0);
}

static void put_time(char *at, int64_t second_of_day)
{
    put_number(at, 2, second_of_day / 3600);
    at[2] = ':';
    put_number(at + 3, 2, second_of_day / 60 % 60);
    at[5] = ':';
    put_number(at + 6, 2, second_of_day % 60);
}

enum { DAY_PART = 17 }; /* "Sun, 06 Nov 1994 " */

static void put_day_part(char *at, int64_t day)
{
    struct date date = date_from_days(day);
    int64_t weekday = (day % 7 + 11) % 7; /* 1970-01-01 was a Thursday */

    memcpy(at, day_names[weekday], 3);
    memcpy(at + 3, ", ", 2);
    put_number(at + 5, 2, date.day);
    at[7] = ' ';
    memcpy(at + 8, month_names + (ptrdiff_t)3 * (date.month - 1), 3);
    at[11] = ' ';
    put_number(at + 12, 4, date.year);
    at[16] = ' ';
}

void httpdate_format(int64_t unix_s, char out[HTTPDATE_SIZE])
{
    static _Thread_local struct {
        int64_t day;
        char text[DAY_PART];
    } last = {0, "Thu, 01 Jan 1970"};
    int64_t second = clamp_s(unix_s);
    int64_t day = floor_div(second, DAY_S);

    if (day != last.day || last.text[DAY_PART - 1] != ' ') {
        put_day_part(last.text, day);
        last.day = day;
    }
    memcpy(out, last.text, DAY_PART);
    put_time(out + DAY_PART, second - day * DAY_S);
    memcpy(out + DAY_PART + 8, " GMT", 5);
}

void rfc3339_format(int64_t unix_ms, char out[RFC3339_SIZE])
{
    int64_t second = clamp_s(floor_div(unix_ms, 1000));
    int64_t day = floor_div(second, DAY_S);
    struct date date = date_from_days(day);

    put_number(out, 4, date.year);
    out[4] = '-';
    put_number(out + 5, 2, date.month);
    out[7] = '-';
    put_number(out + 8, 2, date.day);
    out[10] = 'T';
    put_time(out + 11, second - day * DAY_S);
    out[19] = '.';
    put_number(out + 20, 3, unix_ms - floor_div(unix_ms, 1000) * 1000);
    memcpy(out + 23, "Z", 2);
}

/* A text being read; `ok` turns false at the first thing that does not fit and stays so. */
struct reader {
    const char *at;
    const char *end;
    bool ok;
};

static void expect(struct reader *reader, const char *text)
{
    size_t len = strlen(text);

    if (!reader->ok || (size_t)(reader->end - reader->at) < len ||
        memcmp(reader->at, text, len) != 0) {
        reader->ok = false;
        return;
    }
    reader->at += len;
}

static int number(struct reader *reader, int digits)
{
    int value = 0;

    if (!reader->ok || reader->end - reader->at < digits) {
        reader->ok = false;
        return 0;
    }
    for (; digits > 0; digits--, reader->at++) {
        if (*reader->at < '0' || *reader->at > '9') {
            reader->ok = false;
            return 0;
        }
        value = value * 10 + (*reader->at - '0');
    }
    return value;
}

static int month(struct reader *reader)
{
    if (reader->ok && reader->end - reader->at >= 3) {
        for (int i = 0; i < 12; i++) {
            if (memcmp(reader->at, month_names + (ptrdiff_t)3 * i, 3) == 0) {
                reader->at += 3;
                return i + 1;
            }
        }
    }
    reader->ok = false;
    return 1;
}

/* The name of a day, in full or its first three letters. */
static void weekday(struct reader *reader, bool *ret_full)
{
    size_t left = (size_t)(reader->end - reader->at);

    for (size_t i = 0; i < 7; i++) {
        size_t len = strlen(day_names[i]);

        if (left < 3 || memcmp(reader->at, day_names[i], 3) != 0) {
            continue;
        }
        *ret_full = left >= len && memcmp(reader->at, day_names[i], len) == 0;
        reader->at += *ret_full ? len : 3;
        return;
    }
    reader->ok = false;
}

static int64_t time_of_day(struct reader *reader)
{
    int hours = number(reader, 2);
    int minutes;
    int seconds;

    expect(reader, ":");
    minutes = number(reader, 2);
    expect(reader, ":");
    seconds = number(reader, 2);
    if (hours > 23 || minutes > 59 || seconds > 60) { /* 60: a leap second */
        reader->ok = false;
    }
    return hours * 3600 + minutes * 60 + seconds;
}

static bool date_exists(struct date date)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = date.year % 4 == 0 && (date.year % 100 != 0 || date.year % 400 == 0);
    int length = lengths[date.month - 1] + (date.month == 2 && leap ? 1 : 0);

    return date.day >= 1 && date.day <= length;
}

/* Sun, 06 Nov 1994 08:49:37 GMT, from the comma on */
static int64_t read_preferred(struct reader *reader, struct date *date)
{
    int64_t second;

    expect(reader, ", ");
    date->day = number(reader, 2);
    expect(reader, " ");
    date->month = month(reader);
    expect(reader, " ");
    date->year = number(reader, 4);
    expect(reader, " ");
    second = time_of_day(reader);
    expect(reader, " GMT");
    return second;
}

/* Sunday, 06-Nov-94 08:49:37 GMT, from the comma on */
static int64_t read_rfc850(struct reader *reader, int64_t now_s, struct date *date)
{
    int this_year = date_from_days(floor_div(clamp_s(now_s), DAY_S)).year;
    int64_t second;

    expect(reader, ", ");
    date->day = number(reader, 2);
    expect(reader, "-");
    date->month = month(reader);
    expect(reader, "-");
    date->year = number(reader, 2) + this_year - this_year % 100;
    if (date->year > this_year + 50) {
        date->year -= 100;
    }
    expect(reader, " ");
    second = time_of_day(reader);
    expect(reader, " GMT");
    return second;
}

/* Sun Nov  6 08:49:37 1994, from the first space on */
static int64_t read_asctime(struct reader *reader, struct date *date)
{
    int64_t second;
    bool one_digit;

    expect(reader, " ");
    date->month = month(reader);
    expect(reader, " ");
    one_digit = reader->at < reader->end && *reader->at == ' ';
    reader->at += one_digit ? 1 : 0;
    date->day = number(reader, one_digit ? 1 : 2);
    expect(reader, " ");
    second = time_of_day(reader);
    expect(reader, " ");
    date->year = number(reader, 4);
    return second;
}

bool httpdate_parse(const char *text, size_t len, int64_t now_s, int64_t *ret_unix_s)
{
    struct reader reader = {text, text + len, true};
    struct date date = {0, 1, 0};
    bool full = false;
    int64_t second;

    weekday(&reader, &full);
    if (full) {
        second = read_rfc850(&reader, now_s, &date);
    } else if (reader.at < reader.end && *reader.at == ',') {
        second = read_preferred(&reader, &date);
    } else {
        second = read_asctime(&reader, &date);
    }
    if (!reader.ok || reader.at != reader.end || !date_exists(date)) {
        return false;
    }
    *ret_unix_s = days_from_date(date) * DAY_S + second;
    return true;
}
