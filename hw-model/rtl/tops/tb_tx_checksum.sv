// tx_checksum with flat ports, for benches that take no structures.

`default_nettype none

module tb_tx_checksum
  import tandem_stream_pkg::*;
#(
  parameter int unsigned DataW       = 512,
  parameter int unsigned FrameLenMax = 9234,
  localparam int unsigned Bytes      = DataW / 8
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,

  input  wire logic             in_valid_i,
  output logic                  in_ready_o,
  input  wire logic [DataW-1:0] in_data_i,
  input  wire logic [Bytes-1:0] in_keep_i,
  input  wire logic             in_last_i,
  input  wire logic             in_abort_i,
  input  wire logic             csum_en_i,
  input  wire logic [15:0]      csum_start_i,
  input  wire logic [15:0]      csum_offset_i,
  input  wire logic [31:0]      tag_i,

  output logic                  out_valid_o,
  input  wire logic             out_ready_i,
  output logic [DataW-1:0]      out_data_o,
  output logic [Bytes-1:0]      out_keep_o,
  output logic                  out_last_o,

  output logic                  done_valid_o,
  output logic [31:0]           done_tag_o,
  output logic [15:0]           done_len_o,
  output logic                  done_inserted_o,
  output logic                  done_dropped_o,
  output logic                  done_aborted_o,
  output logic [7:0]            done_reason_o,
  output logic                  busy_o
);

  csum_req_t req;
  tx_done_t  done;
  assign req = '{csum_en: csum_en_i, csum_start: csum_start_i, csum_offset: csum_offset_i,
                 tag: tag_i};
  assign done_tag_o      = done.tag;
  assign done_len_o      = done.len;
  assign done_inserted_o = done.inserted;
  assign done_dropped_o  = done.dropped;
  assign done_aborted_o  = done.aborted;
  assign done_reason_o   = done.reason;

  tx_checksum #(
    .DataW(DataW),
    .FrameLenMax(FrameLenMax)
  ) u_dut (
    .clk_i,
    .rst_ni,
    .in_valid_i,
    .in_ready_o,
    .in_data_i,
    .in_keep_i,
    .in_last_i,
    .in_abort_i,
    .in_req_i     (req),
    .out_valid_o,
    .out_ready_i,
    .out_data_o,
    .out_keep_o,
    .out_last_o,
    .done_valid_o,
    .done_o       (done),
    .busy_o
  );

endmodule

`default_nettype wire
