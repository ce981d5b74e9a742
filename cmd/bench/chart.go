package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The chart's measures, in points.
const (
	chartWidth  = 820
	chartHeight = 360
	legendWidth = 130 // beside the plot, where there are no bars
	barWidth    = 21
	barDistance = 0.28 // of one load's bars, where that of the loads is 1
)

// series are the subjects that have bars.
var series = []struct {
	subject, title string
	color          color.Color
}{
	{"latchkey", "latchkey", color.RGBA{0x1f, 0x6f, 0xb4, 0xff}},
	{"floor", "floor", color.RGBA{0xa0, 0xab, 0xb5, 0xff}},
	{"serve", "workers.Serve", color.RGBA{0xd9, 0x7b, 0x29, 0xff}},
}

// writeChart draws the chart into an SVG file.
func (b *bench) writeChart(file string) error {
	svg := vgsvg.New(chartWidth, chartHeight)
	if err := b.drawChart(draw.New(svg)); err != nil {
		return err
	}
	var drawn bytes.Buffer
	if _, err := svg.WriteTo(&drawn); err != nil {
		return err
	}
	// Fonts of the same width, for machines without this one.
	text := bytes.ReplaceAll(drawn.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;"))
	return os.WriteFile(file, text, 0o644)
}

// drawChart draws throughput relative to plain JavaScript's. The scale is
// logarithmic: twice as much goes as far up as half goes down.
func (b *bench) drawChart(canvas draw.Canvas) error {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	plotter.DefaultFont = plot.DefaultFont
	p := plot.New()
	p.Title.Text = "Requests per second, relative to plain JavaScript's (logarithmic scale)"
	p.Title.TextStyle.Font.Size = 14
	p.Title.Padding = 6
	p.Y.Tick.Marker = powers{}

	legend := plot.NewLegend()
	legend.Top, legend.Left, legend.ThumbnailWidth, legend.Padding = true, true, 14, 4
	rows := plotter.NewGrid()
	rows.Vertical.Width = 0
	rows.Horizontal.Color = color.Gray{0xd8}
	p.Add(rows)

	var labels []string
	lowest, highest := 0.0, 0.0
	for i, s := range series {
		var heights plotter.Values
		var numbers plotter.XYLabels
		for _, l := range b.loads {
			if l.label == "" {
				continue
			}
			if i == 0 {
				labels = append(labels, l.label)
			}
			ratio := b.ratio(l.name, s.subject, "plain", rate)
			if math.IsNaN(ratio) { // the load is not put on this one
				heights = append(heights, 0)
				continue
			}
			height := math.Log2(ratio)
			x := float64(len(heights)) + float64(i-1)*barDistance
			numbers.XYs = append(numbers.XYs, plotter.XY{X: x, Y: height})
			numbers.Labels = append(numbers.Labels, number(ratio))
			heights = append(heights, height)
			lowest, highest = min(lowest, height), max(highest, height)
		}
		bars, err := plotter.NewBarChart(heights, barWidth)
		if err != nil {
			return err
		}
		bars.XMin, bars.Color, bars.LineStyle.Width = float64(i-1)*barDistance, s.color, 0
		text, err := plotter.NewLabels(numbers)
		if err != nil {
			return err
		}
		for j := range text.TextStyle {
			text.TextStyle[j].XAlign = draw.XCenter
			if text.TextStyle[j].YAlign = draw.YBottom; numbers.XYs[j].Y < 0 {
				text.TextStyle[j].YAlign = draw.YTop
			}
		}
		p.Add(bars, text)
		legend.Add(s.title, bars)
	}
	one := plotter.NewFunction(func(float64) float64 { return 0 })
	one.Width = 1.5
	p.Add(one)
	legend.Add("plain JavaScript", one)
	p.NominalX(labels...)
	p.X.Min, p.X.Max = -0.5, float64(len(labels))-0.5
	p.Y.Min, p.Y.Max = math.Floor(lowest-0.5), math.Ceil(highest+0.5)

	canvas.SetColor(color.White) // whatever the page's background is
	canvas.Fill(canvas.Rectangle.Path())
	canvas = draw.Crop(canvas, 10, -10, 10, -10)
	p.Draw(draw.Crop(canvas, 0, -legendWidth, 0, 0))
	legend.Draw(draw.Crop(canvas, canvas.Size().X-legendWidth+10, 0, 0, -30))
	return nil
}

// powers are the ticks of a scale of logarithms to the base of 2.
type powers struct{}

// Ticks implements plot.Ticker.
func (powers) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for power := math.Ceil(low); power <= high; power++ {
		label := fmt.Sprintf("%g", math.Exp2(power))
		if power < 0 {
			label = fmt.Sprintf("1/%g", math.Exp2(-power))
		}
		ticks = append(ticks, plot.Tick{Value: power, Label: label})
	}
	return ticks
}
