// SPDX-License-Identifier: Apache-2.0
//
// LDR-FLIP: how different two pictures look when one is flipped to the other on a screen.
//
// Andersson, Nilsson, Akenine-Moller, Oskarsson, Astrom, Fairchild: "FLIP: A Difference Evaluator
// for Alternating Images", 2020; constants of NVlabs/flip 1.6. Two differences are combined per
// pixel: of colours, after what the eye does not resolve is filtered away, and of edges and points.
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "regress/metrics.h"

enum { RADIUS_MAX = 16 };

typedef struct kernel {  // symmetric support: taps[radius] is the centre
    int radius;
    double taps[2 * RADIUS_MAX + 1];
} kernel;

typedef struct plane_size {
    size_t width, height;
} plane_size;

// ---- Colour spaces.

static const double white[3] = {0.950428545, 1, 1.088900371};
static const double white_inverse[3] = {1.052156925, 1, 0.918357670};

static double linear_of_srgb(double v)
{
    return v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4);
}

static void xyz_of_linear(double xyz[3], const double rgb[3])
{
    static const double m[3][3] = {
        {10135552.0 / 24577794, 8788810.0 / 24577794, 4435075.0 / 24577794},
        {2613072.0 / 12288897, 8788810.0 / 12288897, 887015.0 / 12288897},
        {1425312.0 / 73733382, 8788810.0 / 73733382, 70074185.0 / 73733382},
    };
    for (int i = 0; i < 3; i++) xyz[i] = m[i][0] * rgb[0] + m[i][1] * rgb[1] + m[i][2] * rgb[2];
}

static void linear_of_xyz(double rgb[3], const double xyz[3])
{
    static const double m[3][3] = {
        {3.241003275, -1.537398934, -0.498615861},
        {-0.969224334, 1.875930071, 0.041554224},
        {0.055639423, -0.204011202, 1.057148933},
    };
    for (int i = 0; i < 3; i++) rgb[i] = m[i][0] * xyz[0] + m[i][1] * xyz[1] + m[i][2] * xyz[2];
}

static void ycxcz_of_linear(double ycxcz[3], const double rgb[3])
{
    double xyz[3];
    xyz_of_linear(xyz, rgb);
    for (int i = 0; i < 3; i++) xyz[i] *= white_inverse[i];
    ycxcz[0] = 116 * xyz[1] - 16;
    ycxcz[1] = 500 * (xyz[0] - xyz[1]);
    ycxcz[2] = 200 * (xyz[1] - xyz[2]);
}

static void linear_of_ycxcz(double rgb[3], const double ycxcz[3])
{
    const double y = (ycxcz[0] + 16) / 116;
    const double xyz[3] = {(y + ycxcz[1] / 500) * white[0], y * white[1],
                           (y - ycxcz[2] / 200) * white[2]};
    linear_of_xyz(rgb, xyz);
}

static double lab_curve(double t)
{
    const double delta = 6.0 / 29;
    return t > delta * delta * delta ? cbrt(t) : t / (3 * delta * delta) + 4.0 / 29;
}

// CIELab with Hunt's adjustment: the darker, the less colour is seen.
static void hunt_lab_of_linear(double lab[3], const double rgb[3])
{
    double xyz[3];
    xyz_of_linear(xyz, rgb);
    for (int i = 0; i < 3; i++) xyz[i] = lab_curve(xyz[i] * white_inverse[i]);
    lab[0] = 116 * xyz[1] - 16;
    lab[1] = 500 * (xyz[0] - xyz[1]) * 0.01 * lab[0];
    lab[2] = 200 * (xyz[1] - xyz[2]) * 0.01 * lab[0];
}

static double hyab(const double a[3], const double b[3])
{
    const double da = a[1] - b[1], db = a[2] - b[2];
    return fabs(a[0] - b[0]) + sqrt(da * da + db * db);
}

// ---- Filters.

// out = in filtered along rows, then columns; edges repeat. scratch: a plane.
static void filter(double *out, double *scratch, const double *in, plane_size size,
                   const kernel *rows, const kernel *columns)
{
    const long width = (long)size.width, height = (long)size.height;

#pragma omp parallel for schedule(static)
    for (long y = 0; y < height; y++) {
        const double *line = in + y * width;
        for (long x = 0; x < width; x++) {
            double sum = 0;
            for (int i = -rows->radius; i <= rows->radius; i++) {
                const long at = x + i < 0 ? 0 : x + i >= width ? width - 1 : x + i;
                sum += rows->taps[i + rows->radius] * line[at];
            }
            scratch[y * width + x] = sum;
        }
    }
#pragma omp parallel for schedule(static)
    for (long y = 0; y < height; y++) {
        double *line = out + y * width;
        memset(line, 0, size.width * sizeof *line);
        for (int i = -columns->radius; i <= columns->radius; i++) {
            const long at = y + i < 0 ? 0 : y + i >= height ? height - 1 : y + i;
            const double tap = columns->taps[i + columns->radius];
            for (long x = 0; x < width; x++) line[x] += tap * scratch[at * width + x];
        }
    }
}

// ---- Colour difference.

// Contrast sensitivity in image space: amplitude * exp(-pi^2 z / b), z = (i / ppd)^2.
static double init_sensitivity(kernel *k, double amplitude, double b)
{
    const double pi = acos(-1), ppd = OCT_FLIP_PIXELS_PER_DEGREE;
    double sum = 0;

    k->radius = (int)ceil(3 * sqrt(0.04 / (2 * pi * pi)) * ppd);
    assert(k->radius <= RADIUS_MAX);
    for (int i = -k->radius; i <= k->radius; i++) {
        const double z = (i / ppd) * (i / ppd);
        sum += k->taps[i + k->radius] = amplitude * exp(-pi * pi * z / b);
    }
    return sum;
}

static void scale_taps(kernel *k, double factor)
{
    for (int i = 0; i <= 2 * k->radius; i++) k->taps[i] *= factor;
}

// Filter the three planes of YCxCz in place. scratch: two planes.
static void filter_colours(double *planes[3], double *scratch[2], plane_size size)
{
    const double pi = acos(-1);
    kernel achromatic, red_green, blue_yellow[2];

    scale_taps(&achromatic, 1 / init_sensitivity(&achromatic, 1, 0.0047));
    scale_taps(&red_green, 1 / init_sensitivity(&red_green, 1, 0.0053));
    filter(planes[0], scratch[0], planes[0], size, &achromatic, &achromatic);
    filter(planes[1], scratch[0], planes[1], size, &red_green, &red_green);

    // Blue-yellow is a sum of two Gaussians in two dimensions, normalised together.
    const double s1 = init_sensitivity(&blue_yellow[0], sqrt(34.1 * sqrt(pi / 0.04)), 0.04);
    const double s2 = init_sensitivity(&blue_yellow[1], sqrt(13.5 * sqrt(pi / 0.025)), 0.025);
    for (int i = 0; i < 2; i++) scale_taps(&blue_yellow[i], 1 / sqrt(s1 * s1 + s2 * s2));
    filter(scratch[1], scratch[0], planes[2], size, &blue_yellow[0], &blue_yellow[0]);
    filter(planes[2], scratch[0], planes[2], size, &blue_yellow[1], &blue_yellow[1]);
    for (size_t i = 0; i < size.width * size.height; i++) planes[2][i] += scratch[1][i];
}

static void perceived_colour(double lab[3], double *const planes[3], size_t at)
{
    const double ycxcz[3] = {planes[0][at], planes[1][at], planes[2][at]};
    double rgb[3];
    linear_of_ycxcz(rgb, ycxcz);
    for (int i = 0; i < 3; i++) rgb[i] = fmin(fmax(rgb[i], 0), 1);
    hunt_lab_of_linear(lab, rgb);
}

static double colour_error_max(void)
{
    double green[3], blue[3];
    hunt_lab_of_linear(green, (const double[]){0, 1, 0});
    hunt_lab_of_linear(blue, (const double[]){0, 0, 1});
    return pow(hyab(green, blue), 0.7);
}

// Compress large differences: 0.4 of the largest error becomes 0.95.
static double redistribute(double error, double error_max)
{
    const double knee = 0.4 * error_max;
    return error < knee ? error * 0.95 / knee
                        : 0.95 + (error - knee) / (error_max - knee) * (1 - 0.95);
}

// ---- Feature difference.

// Of width 0.082 degrees: a Gaussian, its first (edges) and second (points) derivative.
static void init_features(kernel *gauss, kernel *edge, kernel *point)
{
    const double sd = 0.5 * 0.082 * OCT_FLIP_PIXELS_PER_DEGREE;
    const int radius = (int)ceil(3 * sd);
    double sum = 0, edge_sum = 0, positive = 0, negative = 0;

    assert(radius <= RADIUS_MAX);
    gauss->radius = edge->radius = point->radius = radius;
    for (int i = -radius; i <= radius; i++) {
        const double g = exp(-i * i / (2 * sd * sd)), p = (i * i / (sd * sd) - 1) * g;
        sum += gauss->taps[i + radius] = g;
        edge->taps[i + radius] = -i * g;
        point->taps[i + radius] = p;
        if (i < 0) edge_sum += -i * g;
        if (p > 0)
            positive += p;
        else
            negative -= p;
    }
    scale_taps(gauss, 1 / sum);
    scale_taps(edge, 1 / edge_sum);
    for (int i = 0; i <= 2 * radius; i++)
        point->taps[i] /= point->taps[i] > 0 ? positive : negative;
}

// The strength of a feature at every pixel: the norm of its responses along x and y.
// scratch: two planes.
static void find_feature(double *strength, double *scratch[2], const double *luma, plane_size size,
                         const kernel *derivative, const kernel *gauss)
{
    filter(strength, scratch[0], luma, size, derivative, gauss);
    filter(scratch[1], scratch[0], luma, size, gauss, derivative);
    for (size_t i = 0; i < size.width * size.height; i++)
        strength[i] = hypot(strength[i], scratch[1][i]);
}

// ---- All of it.

enum { EDGES = 3, POINTS = 4, OF_ONE = 5, SCRATCH = 2 * OF_ONE, IN_ALL = SCRATCH + 2 };  // planes

static void read_ycxcz(double *planes[3], const oct_image *image)
{
    double linear[256];
    for (int i = 0; i < 256; i++) linear[i] = linear_of_srgb(i / 255.0);
    for (size_t i = 0; i < image->width * image->height; i++) {
        const uint8_t *p = image->rgb + 3 * i;
        double ycxcz[3];
        ycxcz_of_linear(ycxcz, (const double[]){linear[p[0]], linear[p[1]], linear[p[2]]});
        for (int c = 0; c < 3; c++) planes[c][i] = ycxcz[c];
    }
}

// planes: [OF_ONE]; first filtered YCxCz, then the strengths of edges and points.
static void prepare(double *planes[OF_ONE], double *scratch[2], const oct_image *image)
{
    const plane_size size = {image->width, image->height};
    kernel gauss, edge, point;

    init_features(&gauss, &edge, &point);
    read_ycxcz(planes, image);
    find_feature(planes[EDGES], scratch, planes[0], size, &edge, &gauss);
    find_feature(planes[POINTS], scratch, planes[0], size, &point, &gauss);
    filter_colours(planes, scratch, size);
}

static float combine(double *const a[OF_ONE], double *const b[OF_ONE], size_t at, double error_max)
{
    double lab_a[3], lab_b[3];
    perceived_colour(lab_a, a, at);
    perceived_colour(lab_b, b, at);
    const double colour = redistribute(pow(hyab(lab_a, lab_b), 0.7), error_max);

    // Luma enters as (Y + 16) / 116; the offset falls out of every derivative.
    const double edges = fabs(a[EDGES][at] - b[EDGES][at]) / 116;
    const double points = fabs(a[POINTS][at] - b[POINTS][at]) / 116;
    const double features = pow(fmax(edges, points) / sqrt(2), 0.5);
    return (float)fmin(pow(colour, 1 - features), 1);
}

oct_status oct_flip(float *map, const oct_image *reference, const oct_image *test, oct_err *err)
{
    assert(reference->width == test->width && reference->height == test->height);
    const size_t pixels = reference->width * reference->height;
    double *memory = malloc(IN_ALL * pixels * sizeof *memory);
    double *planes[IN_ALL];

    if (!memory) {
        return oct_fail(err, OCT_ENOMEM, "out of memory for the FLIP of %zux%zu pixels",
                        reference->width, reference->height);
    }
    for (size_t i = 0; i < IN_ALL; i++) planes[i] = memory + i * pixels;

    double **a = planes, **b = planes + OF_ONE;
    prepare(a, planes + SCRATCH, reference);
    prepare(b, planes + SCRATCH, test);

    const double error_max = colour_error_max();
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < pixels; i++) map[i] = combine(a, b, i, error_max);
    free(memory);
    return OCT_OK;
}
