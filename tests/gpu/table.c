// SPDX-License-Identifier: Apache-2.0
//
// bench-gpu-table: what the measurements of one run (rates.h, steps.c, scripts/bench_gpu_torch.py)
// say together: one JSON document, and a page of tables.
//
// The floor of a step is its work (work.h) at the highest rates that this GPU showed in this run:
// products by type, attention, and a copy for all that lies between them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cli.h"
#include "common/file.h"
#include "common/json.h"

typedef struct options {
    const char *rates, *torch, *out, *table;
    oct_texts steps;
} options;

static double number(const cJSON *row, const char *key)
{
    const cJSON *item = cJSON_GetObjectItem(row, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const char *text(const cJSON *row, const char *key)
{
    const cJSON *item = cJSON_GetObjectItem(row, key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static bool is(const cJSON *row, const char *key, const char *value)
{
    return strcmp(text(row, key), value) == 0;
}

// ---- The floor.

// The highest "tflop_per_s" of an array, among rows whose `key` is `value`; NULL: all.
static double best(const cJSON *array, const char *key, const char *value)
{
    const cJSON *row;
    double most = 0;
    cJSON_ArrayForEach(row, array)
    {
        if (key && !is(row, key, value)) continue;
        if (number(row, "tflop_per_s") > most) most = number(row, "tflop_per_s");
    }
    return most * 1e12;
}

// Seconds of some work at a rate; an unmeasured rate makes the floor unknown.
static bool add_time(double *seconds, double work, double rate)
{
    if (work > 0 && rate <= 0) return false;
    if (work > 0) *seconds += work / rate;
    return true;
}

// FP8 attention may be the slower one: cuDNN's 16-bit kernels are better made than ours.
static double attention_rate(const cJSON *rates, const cJSON *row)
{
    const cJSON *attention = cJSON_GetObjectItem(rates, "attention");
    const bool is_fp8 = cJSON_IsTrue(cJSON_GetObjectItem(row, "fp8_attention"));
    return best(attention, is_fp8 ? NULL : "type", "f16");
}

static void add_floor(const cJSON *rates, cJSON *row)
{
    const cJSON *gemm = cJSON_GetObjectItem(rates, "gemm");
    double seconds = 0;

    if (add_time(&seconds, number(row, "flop_16bit"), best(gemm, "type", "f16")) &&
        add_time(&seconds, number(row, "flop_fp8"), best(gemm, "type", "fp8")) &&
        add_time(&seconds, number(row, "flop_attention"), attention_rate(rates, row)) &&
        add_time(&seconds, number(row, "least_bytes"), number(rates, "copy_gb_per_s") * 1e9)) {
        cJSON_AddNumberToObject(row, "floor_ms", seconds * 1e3);
    }
}

static void add_floors(const cJSON *root)
{
    cJSON *model, *row;
    cJSON_ArrayForEach(model, cJSON_GetObjectItem(root, "models"))
        cJSON_ArrayForEach(row, cJSON_GetObjectItem(model, "steps"))
            add_floor(cJSON_GetObjectItem(root, "rates"), row);
}

// ---- Steps.

// "step_ms" of the same model and size: with `policy` ours, with `what` PyTorch's. 0: not there.
static double ours(const cJSON *model, const char *policy, double pixels)
{
    const cJSON *row;
    cJSON_ArrayForEach(
        row, cJSON_GetObjectItem(model, "steps")) if (is(row, "policy", policy) &&
                                                      number(row, "pixels") ==
                                                          pixels) return number(row, "step_ms");
    return 0;
}

static double torchs(const cJSON *root, const cJSON *model, const char *what, double pixels)
{
    const cJSON *row;
    cJSON_ArrayForEach(row,
                       cJSON_GetObjectItem(cJSON_GetObjectItem(root, "torch"),
                                           "steps")) if (is(row, "model", text(model, "model")) &&
                                                         is(row, "what", what) &&
                                                         number(row, "pixels") ==
                                                             pixels) return number(row, "step_ms");
    return 0;
}

static void put_ratio(FILE *out, double a, double b)
{
    if (a > 0 && b > 0)
        fprintf(out, " %.2f |", a / b);
    else
        fputs(" - |", out);
}

static void put_step(FILE *out, const cJSON *root, const cJSON *model, const cJSON *row)
{
    const cJSON *layers = cJSON_GetObjectItem(row, "layers");
    const double ms = number(row, "step_ms"), pixels = number(row, "pixels");

    fprintf(out, "| %s | %.0f | %s | %.2f |", text(model, "model"), pixels, text(row, "policy"),
            ms);
    if (number(row, "floor_ms") > 0)
        fprintf(out, " %.2f |", number(row, "floor_ms"));
    else
        fputs(" - |", out);
    put_ratio(out, ms, number(row, "floor_ms"));
    put_ratio(out, ours(model, "16-bit", pixels), ms);
    put_ratio(out, torchs(root, model, "BF16 compiled", pixels), ms);
    fprintf(out, " %.2f | %.0f, %.0f, %.0f, %.0f |\n", number(row, "peak_bytes") / (1 << 30),
            number(layers, "fp8"), number(layers, "fp8 widened"), number(layers, "16-bit"),
            number(layers, "f32"));
}

static void put_steps(FILE *out, const cJSON *root)
{
    const cJSON *model, *row;

    fputs("\n## Denoising steps, guidance on\n\n"
          "| model | pixels | policy | ms | floor | / floor | 16-bit / this | compiled PyTorch / "
          "this | peak GiB | layers FP8, widened, 16-bit, F32 |\n"
          "|---|---|---|---|---|---|---|---|---|---|\n",
          out);
    cJSON_ArrayForEach(model, cJSON_GetObjectItem(root, "models"))
        cJSON_ArrayForEach(row, cJSON_GetObjectItem(model, "steps"))
            put_step(out, root, model, row);
}

static void put_torch(FILE *out, const cJSON *torch)
{
    const cJSON *row;

    fputs("\n## PyTorch, the same shapes\n\n", out);
    if (!torch) {
        fputs("Not measured: PyTorch was absent, or no time was left.\n", out);
        return;
    }
    fprintf(out, "PyTorch %s.\n\n| model | pixels | | ms |\n|---|---|---|---|\n",
            text(torch, "torch"));
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(torch, "steps"))
        fprintf(out, "| %s | %.0f | %s | %.2f |\n", text(row, "model"), number(row, "pixels"),
                text(row, "what"), number(row, "step_ms"));
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(torch, "missing"))
        fprintf(out, "\n%s\n", row->valuestring);
}

// ---- Rates.

static double rate_of(const cJSON *gemm, const cJSON *like, const char *type)
{
    const cJSON *row;
    cJSON_ArrayForEach(
        row, gemm) if (is(row, "type", type) && is(row, "model", text(like, "model")) &&
                       is(row, "layer", text(like, "layer")) &&
                       number(row, "m") == number(like, "m")) return number(row, "tflop_per_s");
    return 0;
}

static void put_gemm(FILE *out, const cJSON *gemm)
{
    static const char *const types[] = {"f16", "fp8", "fp8_fast"};
    const cJSON *row;

    fputs("\n## Matrix products, TFLOP/s\n\n"
          "| layer | tokens x out x in | F16 | FP8 | FP8, sums in the tensor core |\n"
          "|---|---|---|---|---|\n",
          out);
    cJSON_ArrayForEach(row, gemm)
    {
        if (!is(row, "type", "f16")) continue;
        fprintf(out, "| %s %s | %.0f x %.0f x %.0f |", text(row, "model"), text(row, "layer"),
                number(row, "m"), number(row, "n"), number(row, "k"));
        for (int i = 0; i < 3; i++) {
            const double rate = rate_of(gemm, row, types[i]);
            if (rate > 0)
                fprintf(out, " %.0f |", rate);
            else
                fputs(" - |", out);
        }
        fputc('\n', out);
    }
}

static void put_rates(FILE *out, const cJSON *rates)
{
    const cJSON *row;

    put_gemm(out, cJSON_GetObjectItem(rates, "gemm"));
    fputs("\n## Joint attention\n\n"
          "| model | heads | tokens | type | | TFLOP/s |\n|---|---|---|---|---|---|\n",
          out);
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(rates, "attention")) fprintf(
        out, "| %s | %.0f | %.0f | %s | %s | %.0f |\n", text(row, "model"), number(row, "heads"),
        number(row, "tokens"), text(row, "type"), text(row, "library"), number(row, "tflop_per_s"));
    fputs("\n## Our own kernels\n\n"
          "| kernel | | us | GB/s | of a copy |\n|---|---|---|---|---|\n",
          out);
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(rates, "kernels"))
        fprintf(out, "| %s | %s | %.1f | %.0f | %.2f |\n", text(row, "name"), text(row, "shape"),
                number(row, "us"), number(row, "gb_per_s"), number(row, "of_copy"));
}

static void put_page(FILE *out, const cJSON *root)
{
    const cJSON *rates = cJSON_GetObjectItem(root, "rates");
    const int driver = (int)number(rates, "driver");

    fprintf(out, "# %s\n\n", text(rates, "gpu"));
    fprintf(out,
            "`scripts/bench gpu`: sm_%.0f, %.0f multiprocessors, %.0f GiB, driver for CUDA %d.%d, "
            "%s. All of it in one run;\nrates are medians of five. Weights and conditioning are "
            "synthetic.\n\n",
            number(rates, "sm"), number(rates, "multiprocessors"),
            number(rates, "memory_bytes") / (1 << 30), driver / 1000, driver % 1000 / 10,
            text(rates, "cublaslt"));
    fprintf(out,
            "Device-to-device copy: %.0f GB/s, reading and writing. The floor of a step is its "
            "work at the highest rates\nbelow: products, attention, and a copy of the least that "
            "lies between them.\n",
            number(rates, "copy_gb_per_s"));
    put_steps(out, root);
    put_torch(out, cJSON_GetObjectItem(root, "torch"));
    put_rates(out, rates);
}

// ---- The program.

static oct_status add_file(cJSON *to, const char *key, const char *path, oct_err *err)
{
    cJSON *root = NULL;
    const oct_status st = oct_json_load(path, &root, err);
    if (st) return st;
    if (key)
        cJSON_AddItemToObject(to, key, root);
    else
        cJSON_AddItemToArray(to, root);
    return OCT_OK;
}

static oct_status write_page(const char *path, const cJSON *root, oct_err *err)
{
    char *page = NULL;
    size_t bytes = 0;

    FILE *out = open_memstream(&page, &bytes);
    if (!out) return oct_fail(err, OCT_ENOMEM, "out of memory for a page");
    put_page(out, root);
    fclose(out);
    const oct_status st = oct_file_write(path, page, bytes, err);
    free(page);
    return st;
}

static oct_status combine(const options *o, oct_err *err)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddNumberToObject(root, "octavo_gpu_bench", 1);
    oct_status st = add_file(root, "rates", o->rates, err);
    cJSON *models = cJSON_AddArrayToObject(root, "models");
    for (size_t i = 0; i < o->steps.count && !st; i++)
        st = add_file(models, NULL, o->steps.items[i], err);
    if (!st && o->torch) st = add_file(root, "torch", o->torch, err);
    if (!st) {
        add_floors(root);
        char *json = oct_json_print(root);
        st = oct_file_write(o->out, json, strlen(json), err);
        free(json);
    }
    if (!st) st = write_page(o->table, root, err);
    cJSON_Delete(root);
    return st;
}

int main(int argc, char **argv)
{
    options o = {0};
    const oct_opt opts[] = {
        OPT_GROUP("Input"),
        OPT_TEXT("rates", "FILE", &o.rates, "result of bench-gpu-rates"),
        OPT_LIST("steps", "FILE", &o.steps, "results of bench-gpu-steps"),
        OPT_TEXT("torch", "FILE", &o.torch, "result of bench_gpu_torch.py (default: none)"),
        OPT_GROUP("Output"),
        OPT_TEXT("out", "FILE", &o.out, "document to write (JSON)"),
        OPT_TEXT("table", "FILE", &o.table, "page to write (Markdown)"),
        OPT_END,
    };
    const oct_cli cli = {
        .tool = "bench-gpu-table",
        .summary = "Put the measurements of one run into one document and one page.",
        .usage = "--rates FILE --steps FILE.. --out FILE --table FILE [options]",
        .examples = {"bench-gpu-table --rates rates.json --steps large.json medium.json --out "
                     "h200.json --table h200.md",
                     "bench-gpu-table --rates rates.json --steps large.json --torch torch.json "
                     "--out h200.json --table h200.md"},
        .opts = opts,
    };
    oct_err err = {{0}};
    bool is_done = false;

    oct_status st = oct_cli_parse(&cli, argc, argv, &is_done, &err);
    if (!st && !is_done && (!o.rates || !o.out || !o.table))
        st = oct_fail(&err, OCT_EUSAGE, "option '--%s' is missing",
                      !o.rates ? "rates"
                      : !o.out ? "out"
                               : "table");
    if (!st && !is_done) st = combine(&o, &err);
    oct_texts_deinit(&o.steps);
    return oct_cli_finish(&cli, st, &err);
}
